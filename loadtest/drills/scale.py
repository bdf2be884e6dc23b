"""How many processes does a load need, and how well does the rule predict what was measured?

    python -m loadtest.drills.scale            # sizes by the committed costs; no service
    python -m loadtest.drills.scale --measure  # measures a service on this machine first: minutes
    python -m loadtest.drills.scale --ms-per-call 80 --ms-per-series 2 --cores 16

The rule behind all figures: a part is full when its work for a second takes a second, and the part
that is full first sets the rate. The last line is ``SCALE_PASS``, or ``SCALE_FAIL: why`` where the
rule is far from what was measured.
"""

import argparse
import asyncio
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

import psutil

from loadtest.drills.compare import Field, drive
from loadtest.drills.harness import FORECAST, FORECAST_BATCH, judged, options, standing, table
from loadtest.drills.parts.processes import TARGETS, name_of
from loadtest.payloads import batch_body
from loadtest.service import Service
from loadtest.stub.process import StubProcess

A_MS, B_MS = 37.0, 0.9  # of the stand-in: what tollama 0.1.0 took on two cores
MARKETS = 1000  # in a batch
FULL = 0.6  # of a process: beyond it waits grow faster than the load
RUNTIME_FULL = 0.6  # of a runtime's best rate: calls stay short, and others can carry a dead one's
TRUSTED = 0.3  # how far the rule may be from what was measured
LEAST_CORES = 0.2  # that are left for what is measured
PROMPT_S = 0.1  # of a call while single forecasts come: batching.prompt_call_s
LONGEST_S = 0.6  # of a call where nobody waits for a single forecast: batching.max_call_s
OPTIONS: dict[str, tuple[Any, str]] = {
    "--measure": (False, "measure the costs on this machine first"),
    "--scale": (1.0, "how many requests to measure with"),
    "--machine-cores": (2, "cores of the machine that was measured"),
    "--ms-per-call": (A_MS, "your runtime's time for a call"),
    "--ms-per-series": (B_MS, "and for each series in it"),
    "--cores": (8.0, "cores of a node of the deployment"),
}


# What a load needs: plain arithmetic


@dataclass(frozen=True, slots=True)
class Costs:
    """Milliseconds of CPU for one forecast that the model answers.

    ``around_ms`` is what HAProxy, the client and the stand-in took where all share one machine;
    of it ``proxy_ms`` is HAProxy's. ``background`` are the cores that Ray keeps busy on a node
    whatever is asked.
    """

    ingress_ms: float
    runner_ms: float
    proxy_ms: float
    around_ms: float
    bulk_ingress_ms: float
    bulk_runner_ms: float
    background: float


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime that takes a + b * n milliseconds for a call with n series, one call at a time."""

    a_ms: float = A_MS
    b_ms: float = B_MS
    most: int = 128  # series in a call

    def call_ms(self, series: int) -> float:
        return self.a_ms + self.b_ms * series

    def most_within(self, seconds: float) -> int:
        """The largest call that takes no longer, or no longer than two calls of one.

        >>> Runtime().most_within(0.1), Runtime(148, 3.6).most_within(0.1)
        (70, 43)
        """
        longest_ms = max(seconds * 1e3, 2 * self.call_ms(1))
        return max(1, min(self.most, int((longest_ms - self.a_ms) / self.b_ms)))

    def per_second(self, series: int) -> float:
        """Series a second in calls of so many."""
        return 1e3 * series / self.call_ms(series)


@dataclass(frozen=True, slots=True)
class Load:
    """Single forecasts a second of markets that are not known, and markets in each cycle."""

    per_second: float
    markets: int = 0
    cycle_s: float = 60.0

    @property
    def bulk(self) -> float:
        """Items of batches a second while a cycle runs."""
        return self.markets / self.cycle_s


def size_for(load: Load, costs: Costs, runtime: Runtime, cores_each: float) -> dict[str, float]:
    """The least that carries a load with room to spare, two of each process at least.

    How much there is of everything, and how busy each is while a cycle runs, 0 to 1.
    """
    series, best = load.per_second + load.bulk, runtime.per_second(runtime.most)
    runtimes = max(1, math.ceil(series / (RUNTIME_FULL * best)))
    ingress_s, runner_s, proxy_s = _cores(load, costs)
    ingresses = max(2, math.ceil(ingress_s / FULL))
    runners = max(2, runtimes, math.ceil(runner_s / FULL))
    wanted = ingresses + runners + proxy_s / FULL
    return {
        "runtimes": runtimes,
        "Runners": runners,
        "ingresses": ingresses,
        f"nodes of {cores_each:.0f} cores": max(
            2, math.ceil(wanted / (cores_each - costs.background))
        ),
        "runtime busy": series / best / runtimes,
        "Runner busy": runner_s / runners,
        "ingress busy": ingress_s / ingresses,
    }


def _cores(load: Load, costs: Costs) -> tuple[float, float, float]:
    """Seconds of CPU a second of all ingresses, all Runners, all proxies."""
    ingress_ms = load.per_second * costs.ingress_ms + load.bulk * costs.bulk_ingress_ms
    runner_ms = load.per_second * costs.runner_ms + load.bulk * costs.bulk_runner_ms
    return ingress_ms / 1e3, runner_ms / 1e3, load.per_second * costs.proxy_ms / 1e3


@dataclass(frozen=True, slots=True)
class Point:
    """A rate that was measured on one machine with one of each process, under a load that fills it.

    ``elsewhere`` are the cores that the machine had busy with other things meanwhile.
    """

    name: str
    per_second: float
    elsewhere: float
    bulk: bool = False
    runtime: Runtime = field(default_factory=Runtime)

    def expected(self, costs: Costs, cores: int) -> float:
        """Forecasts a second by the rule: the least of what each part can do."""
        ingress_ms, runner_ms, around_ms = costs.ingress_ms, costs.runner_ms, costs.around_ms
        if self.bulk:
            ingress_ms, runner_ms = costs.bulk_ingress_ms, costs.bulk_runner_ms
            around_ms -= costs.proxy_ms
        left = max(LEAST_CORES, cores - self.elsewhere)
        series = self.runtime.most_within(LONGEST_S if self.bulk else PROMPT_S)
        return min(
            self.runtime.per_second(series),
            1e3 / ingress_ms,
            1e3 / runner_ms,
            left * 1e3 / (ingress_ms + runner_ms + around_ms),
        )


def most_shares(callers: int, ingress_ms: float, runtime: Runtime) -> tuple[float, float]:
    """The most that callers can get of a runtime's rate who send one request after the other.

    All in one call: between two calls one ingress answers them all and reads their next requests.
    In two groups: while the call of one runs, the other is answered, so a round takes two calls, or
    what the ingress takes if that is longer. A share of 1 is the rate of calls of ``callers``
    series.

    >>> [round(share, 2) for share in most_shares(32, 1.0, Runtime())]
    [0.67, 0.64]
    """
    call_ms, ingress_all_ms = runtime.call_ms(callers), callers * ingress_ms
    two_calls_ms = 2 * runtime.a_ms + runtime.b_ms * callers
    return call_ms / (call_ms + ingress_all_ms), call_ms / max(two_calls_ms, ingress_all_ms)


# Two cores shared with other work, 22 November 2026, Ray 2.60.0; docs/measurements.md has
# those of a later day.
MEASURED = Costs(
    ingress_ms=1.74,
    runner_ms=0.69,
    proxy_ms=0.20,
    around_ms=0.515,
    bulk_ingress_ms=0.555,
    bulk_runner_ms=0.355,
    background=0.27,
)
POINTS = (
    Point("128 callers", 350, 0.8),
    Point("batches of 1,000", 691, 0.9, bulk=True),
    Point("128 callers, runtime four times as slow", 160, 1.2, runtime=Runtime(148.0, 3.6)),
)
LOADS = tuple(Load(rate, markets=10 * rate) for rate in (100, 1_000, 10_000))


# What a forecast costs each process, measured on a running service

PROXY, INGRESS, RUNNER = "proxy (HAProxy)", "Ingress replica", "Runner replica"
CLIENT, RUNTIME, REST = "client", "stand-in runtime", "Ray and the rest"
STAGES = (*(target.name for target in TARGETS[:-1]), REST, RUNTIME, CLIENT)
CONSTANT = (REST, "Serve controller", "breaker actor", "Baseline replica")  # whatever is asked
CALLERS = (8, 16, 32, 64, 128)
Requests = tuple[str, Sequence[bytes], int, int]  # name, bodies, connections, forecasts in a body
WARM_UP, NEW_BATCH = "warm up", "a batch of 1,000 new markets"


def unique_at(callers: int) -> str:
    return f"unique, {callers} at once"


UNIQUE = unique_at(128)
SLOW = f"{UNIQUE}, runtime four times as slow"


@dataclass(frozen=True, slots=True)
class Cost:
    """One kind of load: what it gave, and milliseconds of CPU for each forecast by process.

    ``elsewhere`` are the cores that were busy with anything but this load: Ray's own processes, and
    whatever else runs on the machine.
    """

    name: str
    per_second: float  # forecasts
    p95_ms: float  # of a request
    series_per_call: float
    elsewhere: float
    cpu_ms: Mapping[str, float]


async def measured_costs(field: Field, service: Service, stub: StubProcess) -> list[Cost]:
    """Each kind of load in turn; ``field.scale`` says how many requests."""
    found = [await _cost(field, service, stub, load) for load in _loads(field, stub)]
    return [cost for cost in found if cost.name != WARM_UP]


def _loads(field: Field, stub: StubProcess) -> Iterator[Requests]:
    """Warm-ups come just before the loads that need them: the cache keeps answers for a minute."""
    known, batches = field.fresh(50), [batch_body(field.fresh(MARKETS))]
    illiquid = [body[:-1] + b',"liquidity_bucket":"low"}' for body in field.fresh(50)]
    times = max(2, int(4 * field.scale))
    yield WARM_UP, field.fresh(field.many(300)), 32, 1
    yield "unique, one at a time", field.fresh(60), 1, 1
    for callers in CALLERS:
        bodies = field.fresh(field.many(400 + 30 * callers))
        yield unique_at(callers), bodies, callers, 1
    yield WARM_UP, known, 32, 1
    yield "known, 32 at once", known * max(1, field.many(5000) // 50), 32, 1
    yield "baseline only, 32 at once", illiquid * max(1, field.many(2500) // 50), 32, 1
    yield WARM_UP, batches, 1, MARKETS
    new = [batch_body(field.fresh(MARKETS)) for _ in range(times)]
    yield NEW_BATCH, new, 1, MARKETS
    yield "a batch of 1,000 known markets", batches * times, 1, MARKETS
    stub.control(ms_per_call=4 * A_MS, ms_per_series=4 * B_MS)
    yield SLOW, field.fresh(field.many(1500)), 128, 1


async def _cost(field: Field, service: Service, stub: StubProcess, load: Requests) -> Cost:
    name, bodies, connections, each = load
    await asyncio.to_thread(stub.reset)
    names = await asyncio.to_thread(service.processes)
    before, machine_before, began = _cpu_s(names, stub.process.pid), _machine_s(), perf_counter()
    path = FORECAST if each == 1 else FORECAST_BATCH
    found = await drive(field.url, path, bodies, connections)
    took_s, machine_s = perf_counter() - began, _machine_s() - machine_before
    after = _cpu_s(names, stub.process.pid)
    spent_s = {stage: after[stage] - before[stage] for stage in STAGES}
    work_s = sum(seconds for stage, seconds in spent_s.items() if stage not in CONSTANT)
    sizes = (await asyncio.to_thread(stub.stats))["series_per_call"]
    forecasts = len(bodies) * each
    return Cost(
        name,
        found.per_second * each,
        found.p95_ms,
        sum(sizes) / max(1, len(sizes)),
        elsewhere=(machine_s - work_s) / took_s,
        cpu_ms={stage: seconds * 1e3 / forecasts for stage, seconds in spent_s.items()},
    )


def _cpu_s(names: Mapping[int, str], stub: int) -> dict[str, float]:
    """Seconds of CPU that each stage has used so far."""
    spent: defaultdict[str, float] = defaultdict(float)
    for pid, line in names.items():
        stage = name_of(line)
        spent[stage if stage in STAGES else REST] += _of(pid)
    spent[RUNTIME], spent[CLIENT] = _of(stub), _of(psutil.Process().pid)
    return spent


def _machine_s() -> float:
    """Seconds that all cores together were not idle, those that other machines took included."""
    times = psutil.cpu_times()
    return float(
        sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
    )


def _of(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:  # it has ended meanwhile
        return 0.0
    return float(times.user + times.system)


def costs_of(found: Sequence[Cost]) -> Costs:
    """The costs that the arithmetic needs, out of what was measured."""
    by_name = {cost.name: cost for cost in found}
    busy, of, of_bulk = by_name[UNIQUE], by_name[UNIQUE].cpu_ms, by_name[NEW_BATCH].cpu_ms
    return Costs(
        ingress_ms=of[INGRESS],
        runner_ms=of[RUNNER],
        proxy_ms=of[PROXY],
        around_ms=of[PROXY] + of[CLIENT] + of[RUNTIME],
        bulk_ingress_ms=of_bulk[INGRESS],
        bulk_runner_ms=of_bulk[RUNNER],
        background=sum(of[stage] for stage in CONSTANT) * busy.per_second / 1e3,
    )


def points_of(found: Sequence[Cost]) -> list[Point]:
    """The rates that the rule is held against: those of the loads that fill the machine."""
    runtimes = {UNIQUE: Runtime(), NEW_BATCH: Runtime(), SLOW: Runtime(4 * A_MS, 4 * B_MS)}
    return [
        Point(one.name, one.per_second, one.elsewhere, one.name == NEW_BATCH, runtimes[one.name])
        for one in found
        if one.name in runtimes
    ]


def main(argv: list[str] | None = None) -> int:
    args = options("drills.scale", __doc__, argv, OPTIONS)
    found: list[Cost] = []
    return judged("SCALE", partial(_measure, args, found), partial(report, args, found))


def _measure(args: argparse.Namespace, found: list[Cost]) -> None:
    if args.measure:
        with standing(A_MS, B_MS, {"TSFM_SECURITY__BURST_STEPS": "100000000"}) as (service, stub):
            field = Field(service.url, stub.url, args.scale)
            found += asyncio.run(measured_costs(field, service, stub))


def report(args: argparse.Namespace, found: Sequence[Cost]) -> tuple[str, list[str]]:
    """The tables, and where the rule is too far from what was measured."""
    known = costs_of(found) if found else MEASURED
    points = points_of(found) if found else POINTS
    runtime = Runtime(args.ms_per_call, args.ms_per_series)
    texts = [
        *([cost_table(found), loop_table(found)] if found else []),
        str(known),
        point_table(points, known, args.machine_cores),
        size_table(LOADS, known, runtime, args.cores),
    ]
    return "\n\n".join(texts), failures(points, known, args.machine_cores)


def failures(points: Iterable[Point], costs: Costs, cores: int) -> list[str]:
    broken = []
    for point in points:
        expected, rate = point.expected(costs, cores), point.per_second
        if abs(expected / rate - 1) > TRUSTED:
            broken.append(f"{point.name}: {expected:.0f}/s expected, {rate:.0f} measured")
    return broken


def cost_table(found: Sequence[Cost]) -> str:
    """Milliseconds of CPU for each forecast by process."""
    used = [stage for stage in STAGES if any(cost.cpu_ms[stage] > 0.005 for cost in found)]
    return table(
        {
            "load": cost.name,
            "forecasts/s": f"{cost.per_second:.0f}",
            "p95 ms": f"{cost.p95_ms:.0f}",
            "series a call": f"{cost.series_per_call:.0f}",
            "CPU ms each": f"{sum(cost.cpu_ms.values()):.2f}",
            "cores": f"{sum(cost.cpu_ms.values()) * cost.per_second / 1e3:.1f}",
            **{stage: f"{cost.cpu_ms[stage]:.2f}" for stage in used},
        }
        for cost in found
    )


def loop_table(found: Sequence[Cost]) -> str:
    """Shares of the runtime's rate: what the CPU of the ingress allows, and what was measured."""
    by_name, runtime = {cost.name: cost for cost in found}, Runtime()
    rows = []
    for callers in CALLERS:
        cost, call_ms = by_name[unique_at(callers)], runtime.call_ms(callers)
        one, two = most_shares(callers, cost.cpu_ms[INGRESS], runtime)
        rows.append(
            {
                "callers": callers,
                "a call of all, ms": f"{call_ms:.0f}",
                "ingress for all, ms": f"{callers * cost.cpu_ms[INGRESS]:.0f}",
                "in one call, at most": f"{one:.2f}",
                "in two groups, at most": f"{two:.2f}",
                "measured": f"{cost.per_second / runtime.per_second(callers):.2f}",
            }
        )
    return table(rows)


def point_table(points: Iterable[Point], costs: Costs, cores: int) -> str:
    return table(
        {
            "one machine": point.name,
            "cores busy elsewhere": f"{point.elsewhere:.1f}",
            "measured, forecasts/s": f"{point.per_second:.0f}",
            "by the rule": f"{point.expected(costs, cores):.0f}",
            "off by": f"{point.expected(costs, cores) / point.per_second - 1:+.0%}",
        }
        for point in points
    )


def size_table(loads: Iterable[Load], costs: Costs, runtime: Runtime, cores_each: float) -> str:
    rows = []
    for load in loads:
        size = size_for(load, costs, runtime, cores_each)
        written = {name: f"{n:.0%}" if "busy" in name else f"{n:,}" for name, n in size.items()}
        asked = {"singles/s": f"{load.per_second:,.0f}", "markets a cycle": f"{load.markets:,}"}
        rows.append(asked | written)
    return table(rows)


if __name__ == "__main__":
    sys.exit(main())
