"""What callers would see of a deployment of some size; the queues are in ``queues``."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from loadtest.bench.verdict import percentile
from loadtest.scale.costs import Costs, Runtime, Size
from loadtest.scale.queues import Clock, Ingress, Item, Machine, Process, Runner, RuntimeLine


@dataclass(frozen=True, slots=True)
class Outcome:
    """Rates, waits, and how busy each kind of process was, 0 to 1."""

    per_second: float
    p50_ms: float
    p95_ms: float
    last_s: float
    series_per_call: float
    ingress_busy: float
    runner_busy: float
    runtime_busy: float


class World:
    """A deployment, and the forecasts that were answered in it."""

    def __init__(self, size: Size, costs: Costs, runtime: Runtime, *, one_machine: bool) -> None:
        """With ``one_machine`` the load generator and the stand-in run on it as well."""
        self.clock, self._chance = Clock(), random.Random(1)
        cores = size.cores_each - costs.background
        self._machines = [Machine(self.clock, cores) for _ in range(size.nodes)]
        self._runtimes = [RuntimeLine(self.clock, runtime) for _ in range(size.runtimes)]
        self._runners = [
            Runner(self._process(at), self._runtimes[at % size.runtimes], costs)
            for at in range(size.runners)
        ]
        self._ingresses = [
            Ingress(self._process(at), self._runners, costs, self._chance)
            for at in range(size.ingresses)
        ]
        self._around = self._process(0) if one_machine else None
        self._around_ms = costs.around_ms
        self._ms: list[float] = []
        self._last_s = 0.0

    def closed_loop(self, callers: int, seconds: float, warm_up_s: float = 3.0) -> Outcome:
        """So many callers, each with one forecast under way."""

        def again(_: Item) -> None:
            self._begin(again)

        for _ in range(callers):
            self._begin(again)
        return self._run(warm_up_s, seconds)

    def open_loop(self, per_second: float, seconds: float, warm_up_s: float = 2.0) -> Outcome:
        """Forecasts that come at random, whatever becomes of them."""

        def arrive() -> None:
            self._begin(lambda _: None)
            self.clock.after(self._chance.expovariate(per_second), arrive)

        arrive()
        return self._run(warm_up_s, seconds)

    def cycle(self, markets: int, at_once: int, each: int = 1000) -> Outcome:
        """Every market once, in batches of ``each``, ``at_once`` of them under way."""
        left = markets

        def begin() -> None:
            nonlocal left
            number = min(each, left)
            left -= number
            items = [number]
            for _ in range(number):
                self._begin(partial(done, items))

        def done(items: list[int], _: Item) -> None:
            items[0] -= 1
            if not items[0] and left:
                begin()

        for _ in range(min(at_once, -(-markets // each))):
            begin()
        return self._run(0.0, 3600.0)

    def _process(self, at: int) -> Process:
        return Process(self._machines[at % len(self._machines)])

    def _begin(self, then: Callable[[Item], None]) -> None:
        ingress = self._chance.choice(self._ingresses)
        item = Item(self.clock.now, ingress, lambda item: self._done(item, then))
        if self._around is None:
            ingress.ask(item)
        else:
            self._around.do(self._around_ms, lambda: ingress.ask(item))

    def _done(self, item: Item, then: Callable[[Item], None]) -> None:
        self._ms.append((self.clock.now - item.began_s) * 1e3)
        self._last_s = self.clock.now
        then(item)

    def _run(self, warm_up_s: float, seconds: float) -> Outcome:
        self.clock.run(warm_up_s)
        busy = self._busy_s()
        self._ms.clear()
        for runtime in self._runtimes:
            runtime.sizes.clear()
        self.clock.run(warm_up_s + seconds)
        took_s = min(seconds, self._last_s - warm_up_s)
        shares = [(now - then) / took_s for now, then in zip(self._busy_s(), busy, strict=True)]
        ascending = sorted(self._ms)
        sizes = [size for runtime in self._runtimes for size in runtime.sizes]
        return Outcome(
            len(ascending) / took_s,
            percentile(ascending, 50),
            percentile(ascending, 95),
            took_s,
            sum(sizes) / max(1, len(sizes)),
            *shares,
        )

    def _busy_s(self) -> tuple[float, float, float]:
        """Mean seconds of work of an ingress, of a Runner, of a runtime."""
        kinds = (
            [ingress.process.busy_s for ingress in self._ingresses],
            [runner.process.busy_s for runner in self._runners],
            [runtime.busy_s for runtime in self._runtimes],
        )
        ingress, runner, runtime = (sum(kind) / len(kind) for kind in kinds)
        return ingress, runner, runtime
