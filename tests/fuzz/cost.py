"""What a body costs: how long it holds the event loop, and how much memory it takes on top.

Each body meets an app of its own, in a process of its own, so that no memory is there already. The
model and the baseline are fakes: what the ingress does by itself is what holds the ingress. Linux
only: the peak is /proc's.
"""

import asyncio
import gc
import multiprocessing as mp
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, thread_time

from hypothesis import target
from starlette.types import ASGIApp

from tests.fuzz.inputs.costly import LIMITS, costly, sound, worst
from tests.fuzz.run import Tally, run, shown
from tests.fuzz.senders import fire
from tests.fuzz.shots import FORECAST_PATH, JSON, Shot
from tests.support.bench import EXAMPLE, Bench
from tests.support.fakes import FakeClock

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

    def __str__(self) -> str:
        times = self.peak_bytes / max(self.size, 1)
        return (
            f"{self.size / 1e6:6.2f} MB {self.status} {self.hold_s * 1e3:7.1f} ms"
            f" {self.peak_bytes / 1e6:7.1f} MB ({times:.1f} x)"
        )


def by_cost(bodies: int, seed_of_run: int) -> Iterator[Tally]:
    """A tally for each endpoint's worst and largest bodies, and one for a search for others."""
    for path in LIMITS:
        tally = Tally(f"cost {path}")
        for name, make in chain(sound(path), worst(path)):
            with suppress(AssertionError):
                _check(tally, path, make(), name)
        yield tally
    tally = Tally("cost of others")
    yield run(tally, costly(), lambda case: _check(tally, *case), bodies, seed_of_run)


def _check(tally: Tally, path: str, body: bytes, name: str = "") -> None:
    """Measures one body.

    Raises:
        AssertionError: it costs too much; the tally keeps the first.
    """
    cost = cost_of(path, body)
    tally.bodies += 1
    tally.statuses[cost.status] += 1
    tally.slowest_s = max(tally.slowest_s, cost.hold_s)
    if not name:
        target(cost.hold_s)
    found = list(cost.faults())
    if found:
        shot = shown(Shot(path, (body,), JSON))
        tally.failure = f"{'; '.join(found)}: {name}\n    {shot}"
        raise AssertionError(tally.failure)


class RunningClock(FakeClock):
    """The machine's."""

    def __call__(self) -> float:
        return perf_counter()


def cost_of(path: str, body: bytes, tries: int = TRIES) -> Cost:
    """Of the first try that is within the limits, each in a process of its own; else the last."""
    cost = _in_a_child(path, body)
    while tries > 1 and any(cost.faults()):
        tries -= 1
        cost = _in_a_child(path, body)
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
