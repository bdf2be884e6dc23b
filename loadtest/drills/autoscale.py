"""A step in the load: how soon do Runners start and stop, and what do callers notice?

    python -m loadtest.drills.autoscale
    python -m loadtest.drills.autoscale --callers 200 --target 50 --ms-per-call 37

Few callers, many callers, few again. There are two runtimes; the service starts with one Runner
and may have two. The last line is ``AUTOSCALE_PASS`` or ``AUTOSCALE_FAIL: why``.
"""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from time import perf_counter
from typing import Any

import httpx

from loadtest.drills import harness
from loadtest.drills.harness import Client, Sample
from loadtest.payloads import Shape, encode, windows
from loadtest.service import read_config
from loadtest.stub.process import StubProcess

SHAPE = Shape(model="mock", points=96)
MOST = 2  # runtimes, and Runners
FEW = 10  # callers before and after the step
HOLD_S = 15.0  # length of the loads that wait for no change
LIMIT_S = 90.0  # longest wait for new Runners
LEAST_SHARE = 0.9  # of the model's rate before
DOWNSCALE_DELAY_S = 20.0  # 300 is shipped
BEFORE, STEP = "before", "step, not scaled yet"
OUT, LOW = "step, scaled out", "low again"
OPTIONS: dict[str, tuple[Any, str]] = {
    "--callers": (120, "callers from the step on"),
    "--target": (40, "items in progress for each Runner"),
    "--ms-per-call": (40.0, "the runtime's time for a call"),
    "--ms-per-series": (8.0, "and for each series in it"),
}


@dataclass(frozen=True, slots=True)
class Phase:
    """One load, and what callers and the runtimes saw of it."""

    name: str
    callers: int
    runners: str
    seconds: float
    samples: Sequence[Sample]
    sizes: Sequence[int]

    @property
    def by_model(self) -> int:
        """How many answers were the model's; the baseline answers at any load."""
        return sum(sample.source == "model" for sample in self.samples)

    def per_second(self, answers: int) -> float:
        return answers / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class Seen:
    """The phases so far, and seconds until the new Runner ran, and until it had ended again."""

    phases: list[Phase] = field(default_factory=list)
    out_s: float | None = None
    back_s: float | None = None


def main(argv: list[str] | None = None) -> int:
    args = harness.options("drills.autoscale", __doc__, argv, OPTIONS)
    seen = Seen()
    return harness.judged("AUTOSCALE", partial(_measure, args, seen), partial(report, seen))


def _measure(args: argparse.Namespace, seen: Seen) -> None:
    config = scaling_config(read_config(), args.target)
    speed = ("--ms-per-call", str(args.ms_per_call), "--ms-per-series", str(args.ms_per_series))
    with ExitStack() as stack:
        stubs = [stack.enter_context(StubProcess("--model", "*", *speed)) for _ in range(MOST)]
        service = harness.service_on([stub.url for stub in stubs], {}, config)
        asyncio.run(_take_steps(stack.enter_context(service).url, stubs, args, seen))


def scaling_config(config: Mapping[str, Any], target: int) -> dict[str, Any]:
    """The Serve config with a Runner that scales within minutes."""
    scaling = {
        "min_replicas": 1,
        "max_replicas": MOST,
        "target_ongoing_requests": target,
        "downscale_delay_s": DOWNSCALE_DELAY_S,
    }
    return harness.with_deployments(config, {"Runner": {"autoscaling_config": scaling}})


async def _take_steps(
    url: str, stubs: Sequence[StubProcess], args: argparse.Namespace, seen: Seen
) -> None:
    callers, http = Callers(url, SHAPE), httpx.AsyncClient(base_url=url, timeout=5, trust_env=False)

    async def phase(
        name: str, number: int, least_s: float, runners: int | None = None, limit_s: float = 0.0
    ) -> float | None:
        """Lasts ``least_s``, and until so many Runners run; the seconds, None over the limit."""
        for stub in stubs:
            await asyncio.to_thread(stub.reset)
        before, first, began = await _runners(http), len(callers.samples), perf_counter()
        callers.set_number(number)
        await asyncio.sleep(least_s)
        now = await _runners(http)
        while runners is not None and now != runners and perf_counter() - began < limit_s:
            await asyncio.sleep(0.5)
            now = await _runners(http)
        seconds = perf_counter() - began
        stats = [await asyncio.to_thread(stub.stats) for stub in stubs]
        sizes = [size for one in stats for size in one["series_per_call"]]
        samples = callers.samples[first:]
        seen.phases.append(Phase(name, number, f"{before} to {now}", seconds, samples, sizes))
        return seconds if runners in (None, now) else None

    try:
        await phase(BEFORE, FEW, HOLD_S)
        seen.out_s = await phase(STEP, args.callers, 0.0, MOST, LIMIT_S)
        await phase(OUT, args.callers, HOLD_S)
        seen.back_s = await phase(LOW, FEW, 0.0, 1, 2 * LIMIT_S)
    finally:
        await callers.stop()
        await http.aclose()


async def _runners(http: httpx.AsyncClient) -> int:
    """How many Runners run; 0 where the status cannot be read."""
    with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
        return int((await http.get("/tsfm/status")).json()["replicas"].get("Runner") or 0)
    return 0


class Callers:
    """Each sends a request for a new market after each answer; their number can change."""

    def __init__(self, url: str, shape: Shape) -> None:
        self._client = Client(url, shape)
        self._bodies = (encode(next(windows(number, shape)), shape) for number in count())
        self._tasks: list[asyncio.Task[None]] = []
        self._wanted = 0

    @property
    def samples(self) -> list[Sample]:
        return self._client.samples

    def set_number(self, number: int) -> None:
        """Sets their number; surplus callers stop after their current answer."""
        # those that stop have stopped long before the number rises again
        more = range(self._wanted, number)
        self._wanted = number
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks += [asyncio.create_task(self._ask(n)) for n in more]

    async def stop(self) -> None:
        self.set_number(0)
        await asyncio.gather(*self._tasks)
        self._client.close()

    async def _ask(self, number: int) -> None:
        while number < self._wanted:
            await self._client.send(next(self._bodies))


def report(seen: Seen) -> tuple[str, list[str]]:
    """The tables, and every broken promise."""
    times = {"scaled out after": seen.out_s, "scaled in after": seen.back_s}
    words = (f"{what} {'never' if s is None else f'{s:.0f} s'}" for what, s in times.items())
    return f"{harness.table(map(_cells, seen.phases))}\n{', '.join(words)}", failures(seen)


def failures(seen: Seen) -> list[str]:
    found = []
    for phase in seen.phases:
        found += [f"{phase.name}: {words}" for words in harness.bad_answers(phase.samples)]
    for what, took_s in (("out", seen.out_s), ("in again", seen.back_s)):
        if took_s is None:
            found.append(f"the Runner was not scaled {what} while we waited")
    rates = {phase.name: phase.per_second(phase.by_model) for phase in seen.phases}
    before, after = rates.get(STEP, 0.0), rates.get(OUT, 0.0)
    if after < LEAST_SHARE * before:
        found.append(f"the model answered {before:.0f} a second and then {after:.0f}")
    return found


def _cells(phase: Phase) -> dict[str, object]:
    answers = len(phase.samples)
    return {
        "phase": phase.name,
        "Runners": phase.runners,
        "callers": phase.callers,
        "s": f"{phase.seconds:.0f}",
        "answers/s": f"{phase.per_second(answers):.0f}",
        "from the model": f"{phase.by_model / max(1, answers):.1%}",
        **harness.times(phase.samples, 50, 95),
        "series a call": f"{sum(phase.sizes) / max(1, len(phase.sizes)):.1f}",
    }


if __name__ == "__main__":
    sys.exit(main())
