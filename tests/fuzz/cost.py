"""What a body costs: how long it holds the event loop, and how much memory it takes on top.

Each body meets an app of its own, in a process of its own, so that no memory is there already. The
model and the baseline are fakes: what the ingress does by itself is what holds the ingress. Linux
only: the peak is /proc's.
"""

import asyncio
import gc
import multiprocessing as mp
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from itertools import chain, count
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, thread_time

from starlette.types import ASGIApp

from tests.fuzz.run import Tally, shown
from tests.fuzz.senders import fire
from tests.fuzz.shots import BATCH_PATH, FORECAST_PATH, JSON, Shot
from tests.support.bench import EXAMPLE, Bench
from tests.support.fakes import FakeClock

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


def repeated(template: Template, value: bytes, size: int) -> bytes:
    """A body of about that size."""
    return template[0] + b",".join([value] * (size // (len(value) + 1))) + template[1]


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
    quotes = b'"%b"' % (b'\\"' * 1000)
    yield (
        "escaped quotes before lists",
        lambda: _ITEM + b'"a":[%b]}' % b",".join([quotes, b"[1]"] * 990),
    )
    yield (
        "escaped quotes in names",
        lambda: _ITEM + b'"x_past":{%b}}' % b",".join([quotes + b":[1]"] * 990),
    )
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
        yield "2,000 with width limits", lambda: batch(limited(), 2000)
        yield "2,000 of 15 KB", lambda: batch(series(1450), 2000)
        yield "45 of 16 covariates of digits", lambda: batch(largest(b"1"), 45)
        yield "8 of 16 covariates", lambda: batch(largest(_NUMBER), 8)
        yield "40 of 20,000 times", lambda: batch(times(), 40)
    if path == OUTCOMES_PATH:
        yield "5,000 outcomes", lambda: b'{"outcomes":[%b]}' % b",".join([_OUTCOME] * 5000)


def series(points: int) -> bytes:
    return _ITEM + b'"y":[' + b",".join([_NUMBER] * points) + b"]}"


def limited() -> bytes:
    """A request with width limits of its own."""
    return series(288)[:-1] + b',"bands":{"min_interval_width":0.5,"min_interval_ticks":2}}'


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


MAX_HOLD_S = 0.05
MAX_TIMES_BODY = 10
FREE_BYTES = 32 * 1024 * 1024  # of a small body, which is allowed so much whatever its size
CHUNK_BYTES = 256 * 1024  # as a server hands them on
LIMIT_S = 120.0  # for an answer: all is measured in CPU time, whatever else the machine does
TRIES = 4  # the quickest counts: the machine may be busy with something else
_FIRST = (EXAMPLE, b"{}", b"{")  # so that nothing is imported or built for the first time


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one body.

    Attributes:
        hold_s: CPU time of the longest turn that it kept all others waiting.
        peak_bytes: memory on top of what was there, at most.
    """

    size: int
    status: int
    hold_s: float
    peak_bytes: int

    def faults(self) -> Iterator[str]:
        """What is over the limits, in words."""
        if self.hold_s > MAX_HOLD_S:
            yield f"held the event loop for {self.hold_s * 1e3:.0f} ms"
        if self.peak_bytes > max(FREE_BYTES, MAX_TIMES_BODY * self.size):
            yield f"took {self.peak_bytes / 1e6:.0f} MB of memory for {self.size / 1e6:.1f} MB"


def by_cost() -> Iterator[Tally]:
    """A tally for each endpoint, of its worst and its largest valid bodies."""
    for path in LIMITS:
        tally = Tally(f"cost {path}")
        for name, make in chain(sound(path), worst(path)):
            _check(tally, path, make(), name)
        yield tally


def _check(tally: Tally, path: str, body: bytes, name: str) -> None:
    """Measures one body; the tally keeps the last one that costs too much."""
    cost = cost_of(path, body)
    tally.bodies += 1
    tally.statuses[cost.status] += 1
    tally.slowest_s = max(tally.slowest_s, cost.hold_s)
    if found := list(cost.faults()):
        shot = shown(Shot(path, (body,), JSON))
        tally.failure = f"{'; '.join(found)}: {name}\n    {shot}"


class RunningClock(FakeClock):
    """The machine's."""

    def __call__(self) -> float:
        return perf_counter()


def cost_of(path: str, body: bytes) -> Cost:
    """Of the first try that is within the limits, each in a process of its own; else the last."""
    for _ in range(TRIES):
        cost = _in_a_child(path, body)
        if not any(cost.faults()):
            break
    return cost


@cache
def _bench() -> Bench:
    return Bench(clock=RunningClock())


def _in_a_child(path: str, body: bytes) -> Cost:
    _bench()  # here, so that a child has it
    gc.freeze()  # as a replica does
    here, there = mp.Pipe(duplex=False)
    child = mp.get_context("fork").Process(target=_tell, args=(there, path, body))
    child.start()
    there.close()
    try:
        found: Cost = here.recv()
    finally:
        child.join()
    return found


def _tell(there: Connection, path: str, body: bytes) -> None:
    there.send(asyncio.run(_cost(path, body)))


async def _cost(path: str, body: bytes) -> Cost:
    app = _bench().app
    for first in _FIRST:
        await fire(app, Shot(FORECAST_PATH, (first,), JSON))
    return await measured(app, path, body)


async def measured(app: ASGIApp, path: str, body: bytes) -> Cost:
    """What an app makes of a body; of memory that it has had before nothing is seen."""
    chunks = tuple(body[at : at + CHUNK_BYTES] for at in range(0, len(body), CHUNK_BYTES))
    turns: list[float] = [0.0]
    before = _start_of_peak()
    heart = asyncio.create_task(_longest_turn(turns))
    await asyncio.sleep(0)
    reply = await fire(app, Shot(path, chunks, JSON), LIMIT_S)
    await asyncio.sleep(0)  # its last turn counts as well
    heart.cancel()
    return Cost(len(body), reply.status, turns[0], _memory("VmHWM") - before)


async def _longest_turn(longest: list[float]) -> None:
    """Runs in every turn of the loop, and measures the CPU time of everybody else's part in it."""
    while True:
        began = thread_time()
        await asyncio.sleep(0)
        longest[0] = max(longest[0], thread_time() - began)


def _start_of_peak() -> int:
    gc.collect()  # garbage that is freed meanwhile would be subtracted from the peak
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024
