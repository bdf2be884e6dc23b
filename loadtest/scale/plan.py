"""How much of everything a load needs, and at what load each part ends; plain arithmetic."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from loadtest.scale.costs import Costs, Fleet, Runtime, Size

FULL = 0.6  # of a process: beyond it waits grow faster than the load
RUNTIME_FULL = 0.6  # of a runtime's best rate: calls stay short, and others can carry a dead one's


@dataclass(frozen=True, slots=True)
class Load:
    """Single forecasts a second, how many of them are known, and markets in each cycle."""

    per_second: float
    hits: float = 0.0
    markets: int = 0
    cycle_s: float = 60.0

    @property
    def unique(self) -> float:
        return self.per_second * (1 - self.hits)

    @property
    def bulk(self) -> float:
        """Items of batches a second while a cycle runs."""
        return self.markets / self.cycle_s


def size_for(load: Load, costs: Costs, runtime: Runtime, cores_each: float) -> Size:
    """The least that carries a load with room to spare, two of each at least.

    >>> from loadtest.scale.costs import MEASURED
    >>> size = size_for(Load(10_000, markets=100_000), MEASURED, Runtime(), cores_each=8)
    >>> size.runtimes
    24
    """
    series = load.unique + load.bulk
    runtimes = math.ceil(series / (RUNTIME_FULL * runtime.per_second(runtime.most)))
    ingress_s, runner_s, proxy_s = _cores(load, costs)
    ingresses = max(2, math.ceil(ingress_s / FULL))
    runners = max(2, runtimes, math.ceil(runner_s / FULL))
    wanted = ingresses + runners + proxy_s / FULL
    nodes = max(2, math.ceil(wanted / (cores_each - costs.background)))
    return Size(ingresses, runners, max(1, runtimes), nodes, cores_each)


def _cores(load: Load, costs: Costs) -> tuple[float, float, float]:
    """Seconds of CPU a second of all ingresses, all Runners, all proxies."""
    ingress_ms = load.unique * costs.ingress_ms + load.per_second * load.hits * costs.hit_ms
    ingress_ms += load.bulk * costs.bulk_ingress_ms
    runner_ms = load.unique * costs.runner_ms + load.bulk * costs.bulk_runner_ms
    return ingress_ms / 1e3, runner_ms / 1e3, load.per_second * costs.proxy_ms / 1e3


@dataclass(frozen=True, slots=True)
class Limit:
    """Where one part ends: at so many of ``unit``; ``then`` is what helps."""

    part: str
    at: float
    unit: str
    then: str


def limits(costs: Costs, runtime: Runtime, fleet: Fleet) -> Iterator[Limit]:
    """What ends first in the order of a growing deployment."""
    best = runtime.per_second(runtime.most)
    yield Limit("a runtime", best, "new forecasts/s", "another one, and a Runner for it")
    yield Limit("an ingress", 1e3 / costs.ingress_ms, "new forecasts/s", "another one")
    yield Limit("a Runner", 1e3 / costs.runner_ms, "new forecasts/s", "another one")
    yield Limit("HAProxy of a node", 1e3 / costs.proxy_ms, "requests/s a core", "another node")
    replicas, runners = 1e3 / fleet.controller_ms_each, 1e3 / fleet.breaker_ms_each
    yield Limit("Serve's controller", replicas, "replicas or more", "a second cluster")
    yield Limit("the breaker actor", runners, "Runners or more", "circuit_breaker.sync_interval_s")


def hit_share(asks: float, ingresses: int, runners: int) -> float:
    """Kept answers among ``asks`` for one market while an answer is kept.

    An ask goes to any ingress, and what that does not know to any Runner: both forget nothing
    within the time. Equal asks at the same moment at one replica count as kept.

    >>> round(hit_share(10, 1, 1), 2), round(hit_share(10, 30, 20), 2)
    (0.9, 0.29)
    """
    computed = 0.0
    for ask in range(int(asks)):
        unknown_there = (1 - 1 / ingresses) ** ask
        computed += unknown_there * (1 - computed / runners)  # each by a Runner of its own
    return 1 - computed / int(asks)
