"""The kinds of bodies by name, how they are made, and how many of all bodies are of each."""

import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from serve_app.http.openapi.document import FORECAST, REQUESTS
from tests.fuzz.shots import BATCH_PATH, FORECAST_PATH, JSON, MARKER, Shot, bad, dumps, whole
from tests.fuzz.sound import sound

Json = Any
Target = tuple[str, bytes]  # path and body
HOLE = '"@hole@"'
_MARKED: dict[str, Json] = {
    **FORECAST,
    "market_id": MARKER,
    "liquidity_bucket": MARKER,
    "max_gap_minutes": 30,
    "deadline_ms": 900,
    "model": {
        "model_name": "chronos",
        "model_version": MARKER,
        "params": {MARKER: MARKER, "n": 1},
    },
}
_UNKNOWN: dict[str, Json] = {**FORECAST, "model": {"model_name": MARKER}}
_COVARIATES: dict[str, Json] = {
    **REQUESTS["covariates"]["value"],
    "x_past": {MARKER: [1.0, 2.0, 3.0, 4.0]},
    "x_future": {MARKER: [1.0, 2.0]},
}
SINGLES = (_MARKED, _UNKNOWN, _COVARIATES, REQUESTS["short"]["value"])
BATCHES: tuple[dict[str, Json], ...] = (
    {"requests": [_MARKED, _UNKNOWN], "deadline_ms": 900},
    {"requests": [_COVARIATES]},
    {"requests": []},
)


def values() -> st.SearchStrategy[tuple[str, Json]]:
    """A path and what may be sent there, as a value."""
    singles = [(FORECAST_PATH, value) for value in SINGLES]
    return st.sampled_from(singles * 2 + [(BATCH_PATH, value) for value in BATCHES])


def targets() -> st.SearchStrategy[Target]:
    return values().map(lambda target: (target[0], dumps(target[1])))


def places(value: Json, so_far: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a value can be replaced; of a long list the first few places are enough."""
    found = [so_far]
    if isinstance(value, dict):
        inner = list(value.items())
    else:
        inner = list(enumerate(value[:3])) if isinstance(value, list) else []
    for key, part in inner:
        found += places(part, (*so_far, key))
    return found


def replaced(value: Json, place: tuple[Any, ...], new: Json) -> Json:
    """A copy with something else in one place."""
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = replaced(copy[place[0]], place[1:], new)
    return copy


@st.composite
def planted(draw: st.DrawFn, raw: st.SearchStrategy[bytes]) -> Target:
    """A body with raw bytes in place of one of its values."""
    path, value = draw(values())
    place = draw(st.sampled_from(places(value)))
    text = dumps(replaced(value, place, "@hole@"))
    return path, text.replace(HOLE.encode(), draw(raw))


_ODD_NUMBERS = (
    *b"1e400 -1e400 1e-400 NaN -NaN Infinity -Infinity nan inf -0 -0.0 00.5 01 .5 5. +1".split(),
    *b"0x1F 1_000 1e 1e+ 5e-324 2.2250738585072011e-308 1.7976931348623159e308 0.1e1 1E-7".split(),
    *b"9007199254740993 9223372036854775808 -9223372036854775809 18446744073709551616".split(),
    *b"0.30000000000000000000000000000000000000000000000000004 1e1000000 0.5f 1,5 \xd9\xa1".split(),
    *(b"1" + b"0" * 400, b"9" * 5000, b"9" * 200_000, b"1e" + b"9" * 999, b"0." + b"0" * 5000),
)
_ODD_STRINGS = (
    *rb"\ud800 \udfff\ud800 \ud83d a\ude00b \u0000 \u00 \x41 \u ../../etc/passwd <script>".split(),
    *b"2026-02-20T12:00:00+99:99 2026-02-30T12:00:00Z -1-01-01T00:00:00Z 1e5 24:00".split(),
    *b"0001-01-01T00:00:00+23:59 9999-12-31T23:59:59-23:59 2026-W08-5 20260220T120000Z".split(),
    *(b"\x00", b"\x1f", b"\n", b"\xed\xa0\x80", b"\xc0\xaf", b"\xff", b"\xf4\x90\x80\x80", b"\xe2"),
    *(
        b"\xf0\x9f\x92\xa9" * 40,
        b"\xe2\x80\xae",
        b"x" * 200_000,
        b"2026-02-20T12:00:00." + b"0" * 99,
    ),
)


@st.composite
def _nested(draw: st.DrawFn) -> bytes:
    opening, closing = draw(st.sampled_from([(b"[", b"]"), (b'{"a":', b"}"), (b'[{"":', b"}]")]))
    depth = draw(st.one_of(st.integers(1, 300), st.sampled_from([999, 1000, 5000, 200_000])))
    inside = draw(st.sampled_from([b"", b"1", b'"%b"' % MARKER.encode(), b"null"]))
    return opening * depth + inside + closing * draw(st.sampled_from([0, depth, depth - 1]))


def _numbers() -> st.SearchStrategy[bytes]:
    floats = st.floats().map(lambda x: repr(x).encode())
    integers = st.integers(-(10**60), 10**60).map(lambda n: b"%d" % n)
    return st.one_of(st.sampled_from(_ODD_NUMBERS), floats, integers)


def _strings() -> st.SearchStrategy[bytes]:
    text = st.text(max_size=40).map(lambda s: dumps(s)[1:-1])
    inside = st.one_of(st.sampled_from(_ODD_STRINGS), st.binary(max_size=30), text)
    marked = st.sampled_from([b"", MARKER.encode()])
    return st.builds(lambda a, b, c: b'"%b%b%b"' % (a, b, c), marked, inside, marked)


DEPTH = planted(_nested()).map(whole)
NUMBERS = planted(_numbers()).map(whole)
STRINGS = planted(_strings()).map(whole)

_ANY_JSON = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), st.just(MARKER)),
        *(st.text(max_size=10), st.datetimes().map(lambda t: f"{t.isoformat()}Z")),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.text(max_size=5).map(lambda s: f"~{s}"), inner, max_size=4),
    ),
    max_leaves=12,
)


OTHER_VALUES = planted(_ANY_JSON.map(dumps)).map(whole)


@st.composite
def doubled(draw: st.DrawFn) -> Shot:
    """A name that stands there twice, or five hundred times."""
    path, value = draw(values())
    name = draw(st.sampled_from(sorted(value)))
    other = dumps(draw(st.one_of(_ANY_JSON, st.just(value[name]))))
    members = b",".join([b"%b:%b" % (dumps(name), other)] * draw(st.sampled_from([1, 2, 500])))
    text = dumps(value)
    if draw(st.booleans()):
        return whole((path, b"{%b,%b" % (members, text[1:])))
    return whole((path, b"%b,%b}" % (text[:-1], members)))


_ENCODINGS = (
    *("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"),
    *("utf-7", "latin-1", "cp037", "shift-jis"),
)


@st.composite
def encoded(draw: st.DrawFn) -> Shot:
    """The text in another encoding, with or without saying so."""
    path, body = draw(targets())
    name = draw(st.sampled_from(_ENCODINGS))
    text = body.decode().replace("m-", draw(st.sampled_from(["m-", "mé", "m¬"])))
    data = text.encode(name, "replace")
    charset = draw(st.sampled_from(["utf-8", name])).encode()
    headers = ((b"Content-Type", b"application/json; charset=%b" % charset),)
    return Shot(path, (data,), headers, is_bad=not _is_plain_utf8(data))


def _is_plain_utf8(data: bytes) -> bool:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return text.isprintable() and not text.startswith("\ufeff")


@st.composite
def compressed(draw: st.DrawFn) -> Shot:
    """Compressed, at times a thousandfold; the service takes no compression."""
    path, body = draw(targets())
    padding = b" " * draw(st.sampled_from([0, 1, 9, 1000, 10_000_000]))
    packed = gzip.compress(body + padding, 1, mtime=0)
    coding = (b"Content-Encoding", draw(st.sampled_from([b"gzip", b"br", b"identity"])))
    return Shot(path, (packed,), (*JSON, coding), is_bad=True)


@st.composite
def truncated(draw: st.DrawFn) -> Shot:
    """A part from the start."""
    path, body = draw(targets())
    return bad((path, body[: draw(st.integers(0, len(body) - 1))]))


@st.composite
def trailing(draw: st.DrawFn) -> Shot:
    """Something behind the end."""
    path, body = draw(targets())
    garbage = st.one_of(
        st.sampled_from([b"}", b"]", b",", b"\x00", body, b"{}", b"null", b"//", MARKER.encode()]),
        st.binary(min_size=1, max_size=20).filter(lambda found: bool(found.strip(b" \t\r\n"))),
    )
    gap = draw(st.sampled_from([b"", b" ", b"\n" * 1000]))
    return bad((path, body + gap + draw(garbage)))


@st.composite
def mutated(draw: st.DrawFn) -> Shot:
    """Bytes put in, taken out, repeated and changed."""
    path, body = draw(targets())
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, len(body)))
        until = min(len(body), at + draw(st.integers(0, 20)))
        pieces = st.sampled_from([b'"', b"{", b",", 2 * body[at:until]])
        body = body[:at] + draw(st.one_of(st.binary(max_size=4), pieces)) + body[until:]
    return whole((path, body))


_FIELD_BYTES = (*range(0x20, 0x7F), *range(0x80, 0x100), 0x09)  # what a server hands on
_ODD: Mapping[bytes, tuple[bytes, ...]] = {
    b"X-Request-Deadline-Ms": (
        *b"0 -1 nan inf -inf 1e400 1e-400 5e-324 1_000 0x10 1e309 1,5 300;x \xff true 1e3".split(),
        *(b"", b" ", b"300\t", b"9" * 5000, "١٢".encode()),
    ),
    b"X-Request-ID": (
        *(b"a" * 129, b"", b"a b", b"x" * 60_000, b"$(id)", b"%0d%0aSet-Cookie:a=b", b"\xff"),
    ),
    b"Accept": (
        *(b"application/x-ndjson", b"*/*", b"", b";;;,,", b"application/x-ndjson;q=0"),
        *(b"application/x-ndjson," * 500, b"\xff\xfe", b"text/html"),
    ),
    b"Content-Type": (b"text/plain", b"multipart/form-data", b"", b"application/json;" * 200),
    b"Authorization": (b"Bearer", b"Bearer " + b"x" * 9000, b"Basic Og==", b"\xff"),
    b"X-Request-Timeout-Seconds": (b"0", b"-1", b"1e-9", b"nan", b"x"),
    b"X-Request-Disconnect-Disabled": (b"1", b"true", b"?1"),
}


@st.composite
def under_headers(draw: st.DrawFn) -> Shot:
    """Up to four headers with values that nobody sends."""
    path, body = draw(targets())
    free = st.lists(st.sampled_from(_FIELD_BYTES), max_size=60).map(bytes)
    marked = free.map(lambda value: MARKER.encode() + value)
    names = draw(st.lists(st.sampled_from(sorted(_ODD)), min_size=1, max_size=4, unique=True))
    headers = tuple(
        (name, draw(st.one_of(st.sampled_from(_ODD[name]), free, marked))) for name in names
    )
    ending = draw(st.sampled_from([b"", b"x"]))
    return Shot(path, (body + ending,), headers, is_bad=bool(ending))


@st.composite
def split(draw: st.DrawFn) -> Shot:
    """In pieces, some of them empty, or byte by byte."""
    path, body = draw(targets())
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=12)))
    if draw(st.integers(0, 9)) == 0:
        cuts = list(range(len(body)))
    return Shot(path, tuple(body[a:b] for a, b in pairwise([0, *cuts, len(body)])), JSON)


@st.composite
def silent(draw: st.DrawFn) -> Shot:
    """The end never comes."""
    path, body = draw(targets())
    part = body[: draw(st.integers(0, len(body)))]
    return Shot(path, (part,), JSON, ends=False, is_bad=True)


@st.composite
def endless(draw: st.DrawFn) -> Shot:
    """More bytes than are taken; blanks alone would be a sound ending to few of them."""
    path, body = draw(targets())
    filling = draw(st.sampled_from([b" ", b"[", b"0", b"\x00"]))
    return Shot(path, (body, *(filling * 1_000_000,) * draw(st.sampled_from([5, 34]))), JSON)


Shots = st.SearchStrategy[Shot]


@dataclass(frozen=True, slots=True)
class Kind:
    shots: Shots
    share: int = 6  # in a hundred


KINDS: Mapping[str, Kind] = {
    "sound": Kind(sound(), 10),
    "depth": Kind(DEPTH, 5),
    "numbers": Kind(NUMBERS, 8),
    "strings": Kind(STRINGS, 8),
    "other values": Kind(OTHER_VALUES, 15),
    "duplicate keys": Kind(doubled()),
    "encodings": Kind(encoded()),
    "compressed": Kind(compressed(), 1),
    "truncated": Kind(truncated()),
    "trailing": Kind(trailing()),
    "mutated": Kind(mutated(), 14),
    "headers": Kind(under_headers(), 7),
    "chunks": Kind(split()),
    "silent": Kind(silent(), 1),  # waits for the service's patience
    "endless": Kind(endless(), 1),
}


def planned(bodies: int) -> Iterator[tuple[str, Shots, int]]:
    """Each kind with its part of ``bodies``, at least one."""
    for name, kind in KINDS.items():
        yield name, kind.shots, max(1, bodies * kind.share // 100)
