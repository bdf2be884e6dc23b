"""What a forecast costs each process in CPU time, measured on a running service."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import psutil

from loadtest.chaos.targets import TARGETS
from loadtest.compare.cases import BATCH, FORECAST, Stand
from loadtest.compare.drive import closed_loop
from loadtest.payloads import batch_body
from loadtest.scale.costs import Costs, Point, Runtime
from loadtest.service import Service
from loadtest.soak.watch import name_of

PROXY = "proxy (HAProxy)"
CLIENT, RUNTIME, REST = "client", "stand-in runtime", "Ray and the rest"
STAGES = (*(target.name for target in TARGETS[:-1]), REST, RUNTIME, CLIENT)
CONSTANT = (REST, "Serve controller", "breaker actor", "Baseline replica")  # whatever is asked
MARKETS = 1000
ALONE, UNIQUE_128, UNIQUE_32 = "unique, one at a time", "unique, 128 at once", "unique, 32 at once"
SLOW = "unique, 128 at once, runtime four times as slow"
A_MS, B_MS = 37.0, 0.9  # of the stand-in: what tollama 0.1.0 took on two cores
KNOWN, BASELINE = "known, 32 at once", "baseline only, 32 at once"
NEW_BATCH, KNOWN_BATCH = "a batch of 1,000 new markets", "a batch of 1,000 known markets"


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

    @property
    def total_ms(self) -> float:
        return sum(self.cpu_ms.values())


@dataclass(frozen=True, slots=True)
class Load:
    """Requests of one kind, and how many forecasts each of them asks for."""

    name: str
    path: str
    bodies: Sequence[bytes]
    connections: int
    each: int = 1


async def costs(stand: Stand, service: Service) -> list[Cost]:
    """Each kind of load in turn; ``stand.scale`` says how many requests."""
    known, many = stand.fresh(50), [batch_body(stand.fresh(MARKETS))]
    await closed_loop(stand.url, FORECAST, [*known, *stand.fresh(stand.many(300))], 32)
    await closed_loop(stand.url, BATCH, many, 1)
    found = [await _cost(stand, service, load) for load in _loads(stand, known, many)]
    slow = Load(SLOW, FORECAST, stand.fresh(stand.many(1500)), 128)
    stand.stub.control(ms_per_call=4 * A_MS, ms_per_series=4 * B_MS)
    return [*found, await _cost(stand, service, slow)]


def _loads(stand: Stand, known: list[bytes], many: list[bytes]) -> Iterator[Load]:
    yield Load(ALONE, FORECAST, stand.fresh(60), 1)
    yield Load(UNIQUE_128, FORECAST, stand.fresh(stand.many(4000)), 128)
    yield Load(UNIQUE_32, FORECAST, stand.fresh(stand.many(2000)), 32)
    yield Load(KNOWN, FORECAST, known * max(1, stand.many(5000) // 50), 32)
    illiquid = [body[:-1] + b',"liquidity_bucket":"low"}' for body in stand.fresh(50)]
    yield Load(BASELINE, FORECAST, illiquid * max(1, stand.many(2500) // 50), 32)
    new = [batch_body(stand.fresh(MARKETS)) for _ in range(max(2, int(4 * stand.scale)))]
    yield Load(NEW_BATCH, BATCH, new, 1, MARKETS)
    yield Load(KNOWN_BATCH, BATCH, many * max(2, int(4 * stand.scale)), 1, MARKETS)


async def _cost(stand: Stand, service: Service, load: Load) -> Cost:
    await asyncio.to_thread(stand.stub.reset)
    names = await asyncio.to_thread(service.processes)
    before, machine_before, began = _cpu_s(names, stand.stub.pid), _machine_s(), perf_counter()
    drive = await closed_loop(stand.url, load.path, load.bodies, load.connections)
    took_s, machine_s = perf_counter() - began, _machine_s() - machine_before
    after = _cpu_s(names, stand.stub.pid)
    work_s = sum(after[stage] - before[stage] for stage in STAGES if stage not in CONSTANT)
    sizes = (await asyncio.to_thread(stand.stub.stats))["series_per_call"]
    forecasts = len(load.bodies) * load.each
    spent = {stage: (after[stage] - before[stage]) * 1e3 / forecasts for stage in STAGES}
    mean = sum(sizes) / len(sizes) if sizes else 0.0
    elsewhere = (machine_s - work_s) / took_s
    return Cost(load.name, drive.per_second * load.each, drive.p95_ms, mean, elsewhere, spent)


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
    """The model's numbers out of what was measured."""
    by_name = {cost.name: cost for cost in found}
    busy, alone, bulk = by_name[UNIQUE_128], by_name[ALONE], by_name[NEW_BATCH]
    of, of_bulk = busy.cpu_ms, bulk.cpu_ms
    work_ms = busy.total_ms - sum(of[stage] for stage in CONSTANT)
    return Costs(
        ingress_ms=of["Ingress replica"],
        runner_ms=of["Runner replica"],
        proxy_ms=of[PROXY],
        around_ms=of[PROXY] + of[CLIENT] + of[RUNTIME],
        hit_ms=by_name[KNOWN].cpu_ms["Ingress replica"],
        bulk_ingress_ms=of_bulk["Ingress replica"],
        bulk_runner_ms=of_bulk["Runner replica"],
        background=sum(of[stage] for stage in CONSTANT) * busy.per_second / 1e3,
        wait_ms=max(0.0, 1e3 / alone.per_second - A_MS - B_MS - work_ms),
    )


def points_of(found: Sequence[Cost]) -> tuple[Point, ...]:
    """The rates that the model is held against: none of them went into it but the first."""
    callers = {UNIQUE_128: 128, UNIQUE_32: 32, SLOW: 128, NEW_BATCH: 0}
    slow, usual = Runtime(4 * A_MS, 4 * B_MS), Runtime(A_MS, B_MS)
    return tuple(
        Point(
            name=cost.name,
            per_second=cost.per_second,
            elsewhere=cost.elsewhere,
            callers=callers[cost.name],
            runtime=slow if cost.name == SLOW else usual,
        )
        for cost in found
        if cost.name in callers
    )
