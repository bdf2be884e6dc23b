"""Bodies made to cost as much as they can, for every endpoint that takes one."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count

from hypothesis import strategies as st

from tests.fuzz.shots import BATCH_PATH, FORECAST_PATH
from tests.support.bench import EXAMPLE

OUTCOMES_PATH = "/tsfm/outcomes"
ADMIN_PATH = "/tsfm/admin/breakers/chronos"
LIMITS: Mapping[str, int] = {
    FORECAST_PATH: 4 * 1024 * 1024,
    BATCH_PATH: 32 * 1024 * 1024,
    OUTCOMES_PATH: 4 * 1024 * 1024,
    ADMIN_PATH: 4 * 1024 * 1024,
}
Template = tuple[bytes, bytes]  # what stands before and behind a long list of the same
_ITEM = b'{"market_id":"m","as_of_ts":"2026-02-20T12:00:00Z",'
_OUTCOME = b'{"market_id":"m","ts":"2026-02-20T12:05:00Z","value":0.44}'
_TIME = b'"2026-02-20T12:00:00.123456+01:00"'
_NUMBER = b"0.12345678"
_DEEP = b"[" * 150 + b"]" * 150

# Where many values can stand, and of which kinds they can be.
SINGLE: tuple[Template, ...] = (
    (_ITEM + b'"y":[', b"]}"),
    (_ITEM + b'"y":[0,1],"y_ts":[', b"]}"),
    (_ITEM + b'"y":[0,1],"x_past":{"a":[', b"]}}"),
    (_ITEM + b'"y":[0,1],"market_id":"', b'"}'),
    (b"[", b"]"),
    (b"", b""),
)
MEMBERS: tuple[Template, ...] = (
    (_ITEM + b'"y":[0,1],', b"}"),
    (_ITEM + b'"y":[0,1],"x_past":{', b"}}"),
    (_ITEM + b'"y":[0,1],"model":{', b"}}"),
    (_ITEM + b'"y":[0,1],"model":{"params":{', b"}}}"),
    (_ITEM + b'"y":[0,1],"transform":{', b"}}"),
    (b'{"action":"reset",', b"}"),
)
VALUES: tuple[bytes, ...] = (
    *(b"1", _NUMBER, b'""', b"{}", b"[]", b'{"":[]}', _TIME, _DEEP, _OUTCOME, b"\xff", b"{", b'"'),
    *(b"9" * 4299, b"\\n" * 1000, "é".encode() * 1000, b" " * 1000, b'"%b"' % (b"x" * 100_000)),
)
LISTS: Mapping[str, tuple[Template, ...]] = {
    FORECAST_PATH: SINGLE,
    BATCH_PATH: (
        (b'{"requests":[', b"]}"),
        (b'{"requests":[' + _ITEM + b'"y":[', b"]}]}"),
        (b'{"deadline_ms":9,"requests":[{}]', b"}"),
        (b'{"requests":[' + _ITEM + b'"y":[0,1],"market_id":"', b'"}]}'),
    ),
    OUTCOMES_PATH: ((b'{"outcomes":[', b"]}"), (b'{"outcomes":[{"market_id":"', b'"}]}')),
    ADMIN_PATH: ((b'{"action":[', b"]}"),),
}


def repeated(template: Template, value: bytes, size: int, between: bytes = b",") -> bytes:
    """A body of about that size."""
    many = max(1, size // max(1, len(value) + len(between)))
    return template[0] + between.join([value] * many) + template[1]


def members(template: Template, value: bytes, size: int) -> bytes:
    """An object with as many different names."""
    made, left = [], size
    for number in count():
        made.append(b'"%x":%b' % (number, value))
        left -= len(made[-1]) + 1
        if left <= 0:
            break
    return template[0] + b",".join(made) + template[1]


def worst(path: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Bodies of the largest size that is read, by name; made when they are asked for."""
    size = LIMITS[path] - 100_200
    for template in LISTS[path]:
        for value in VALUES:
            name = f"{template[0][-24:].decode()} {value[:12]!r}"
            yield name, partial(repeated, template, value, size)
    if path != FORECAST_PATH:
        return
    for template in MEMBERS:
        for value in (b"1", _DEEP, b'{"":{}}'):
            for many in (size, 30_000):
                name = f"{template[0][-24:].decode()} {many} {value[:12]!r}"
                yield name, partial(members, template, value, many)


def sound(path: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The largest bodies that keep every rule."""
    if path == FORECAST_PATH:
        yield "16 covariates of digits", partial(largest, b"1")
        yield "16 covariates", partial(largest, _NUMBER)
        yield "20,000 times", times
    if path == BATCH_PATH:
        yield "2,000 examples", lambda: batch(EXAMPLE, 2000)
        yield "2,000 of 288 points", lambda: batch(series(288), 2000)
        yield "2,000 of 15 KB", lambda: batch(series(1450), 2000)
        yield "45 of 16 covariates of digits", lambda: batch(largest(b"1"), 45)
        yield "8 of 16 covariates", lambda: batch(largest(_NUMBER), 8)
        yield "40 of 20,000 times", lambda: batch(times(), 40)
    if path == OUTCOMES_PATH:
        yield "5,000 outcomes", lambda: b'{"outcomes":[%b]}' % b",".join([_OUTCOME] * 5000)


def series(points: int, value: bytes = _NUMBER) -> bytes:
    return _ITEM + b'"y":[' + b",".join([value] * points) + b"]}"


def largest(value: bytes) -> bytes:
    """All points and covariates that one request may have."""
    values = b",".join([value] * 20_000)
    past = b",".join(b'"c%d":[%b]' % (i, values) for i in range(16))
    return _ITEM + b'"y":[%b],"x_past":{%b}}' % (values.replace(b"1.", b"0."), past)


def times() -> bytes:
    """A time for each of 20,000 points, a minute apart."""
    end = datetime(2026, 2, 20, 12, tzinfo=UTC)
    moments = ((end - timedelta(minutes=i)).isoformat() for i in reversed(range(20_000)))
    stamps = b",".join(b'"%b"' % moment.encode() for moment in moments)
    return series(20_000)[:-1] + b',"y_ts":[%b]}' % stamps


def batch(item: bytes, many: int) -> bytes:
    return b'{"requests":[%b]}' % b",".join([item] * many)


@st.composite
def costly(draw: st.DrawFn) -> tuple[str, bytes]:
    """A path, and something short that is repeated somewhere in a body for it."""
    path = draw(st.sampled_from(sorted(LISTS)))
    template = draw(st.sampled_from(LISTS[path] + (MEMBERS if path == FORECAST_PATH else ())))
    piece = st.one_of(
        st.sampled_from([v for v in VALUES if len(v) < 500]),
        st.text('{}[]",:\\0e.u n', max_size=12).map(str.encode),
    )
    value = b"".join(draw(st.lists(piece, min_size=1, max_size=3)))
    between = draw(st.sampled_from([b",", b"", b" "]))
    size = draw(st.sampled_from([30_000, 300_000, LIMITS[path] // 4, LIMITS[path]]))
    return path, repeated(template, value, size - 3000, between)
