"""The load's way up and down, and what was seen on it."""

import argparse
import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

import httpx

from loadtest.autoscale.callers import Callers
from loadtest.autoscale.verdict import BEFORE, LOW, OUT, STEP, WAY, Phase, Times, runners_for
from loadtest.payloads import Shape
from loadtest.stub.process import StubProcess

SHAPE = Shape(model="mock", points=96)
MOST = 4  # Runners


@dataclass(slots=True)
class Seen:
    """What has been seen so far; an error on the way leaves it as it is."""

    phases: list[Phase] = field(default_factory=list)
    times: Times = field(default_factory=Times)


async def take_steps(url: str, stub: StubProcess, args: argparse.Namespace, seen: Seen) -> None:
    """Few callers, many, few again; what is seen is put into ``seen``."""
    wanted = runners_for(args.callers, args.target, MOST)
    async with httpx.AsyncClient(base_url=url, timeout=5, trust_env=False) as http:
        walk = _Walk(http, stub, Callers(url, SHAPE, timeout_s=10.0), seen.phases)
        try:
            await walk.phase(BEFORE, args.few, least_s=args.hold_s)
            first_s = await walk.phase(STEP, args.callers, lambda n: n > 1, limit_s=args.limit_s)
            on_s = await walk.phase(WAY, args.callers, lambda n: n >= wanted, limit_s=args.limit_s)
            all_s = None if first_s is None or on_s is None else first_s + on_s
            seen.times = Times(first_s, all_s, None)
            await walk.phase(OUT, args.callers, least_s=args.hold_s)
            back_s = await walk.phase(LOW, args.few, lambda n: n == 1, limit_s=2 * args.limit_s)
            seen.times = Times(first_s, all_s, back_s)
        finally:
            await walk.callers.leave()


@dataclass(slots=True)
class _Walk:
    http: httpx.AsyncClient
    stub: StubProcess
    callers: Callers
    phases: list[Phase]
    runners: int = 1

    async def phase(
        self,
        name: str,
        callers: int,
        until: Callable[[int], bool] = lambda _: True,
        least_s: float = 0.0,
        limit_s: float = 0.0,
    ) -> float | None:
        """Lasts ``least_s`` and until the number of Runners is right; the seconds it took.

        None when the number was not right within the limit. Where there is nothing to wait for,
        there is no phase.
        """
        if not least_s and until(self.runners):
            return 0.0
        await asyncio.to_thread(self.stub.reset)
        before, first, began = self.runners, len(self.callers.samples), perf_counter()
        self.callers.are(callers)
        await asyncio.sleep(least_s)
        while not until(self.runners) and perf_counter() - began < limit_s:
            await asyncio.sleep(0.5)
            await self._count()
        seconds, stats = perf_counter() - began, await asyncio.to_thread(self.stub.stats)
        runners = f"{before}" if before == self.runners else f"{before} to {self.runners}"
        samples = self.callers.samples[first:]
        busy_s = stats["busy_ms"] / 1e3
        sizes = stats["series_per_call"]
        self.phases.append(Phase(name, callers, runners, seconds, samples, sizes, busy_s))
        return seconds if until(self.runners) else None

    async def _count(self) -> None:
        """How many Runners run; a status that cannot be read changes nothing."""
        try:
            told = (await self.http.get("/tsfm/status")).json()["replicas"].get("Runner")
        except (httpx.HTTPError, ValueError, KeyError):
            return
        self.runners = told or self.runners
