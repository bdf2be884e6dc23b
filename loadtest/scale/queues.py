"""A deployment as queues: callers, ingresses, Runners, runtimes, and the cores they share.

Processes do one thing at a time, and only while a core of their machine is free. Between ingress
and Runner items share calls; a Runner cuts a batch when its slot is free; a runtime computes one
call at a time. That is the service's design, with nothing of its details.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from loadtest.scale.costs import Costs, Runtime

_SAME_MOMENT_S = 1e-9
Do = Callable[[], None]


class Clock:
    """Virtual time, and what happens when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._coming: list[tuple[float, int, Do]] = []
        self._numbers = count()

    def after(self, seconds: float, do: Do) -> None:
        heapq.heappush(self._coming, (self.now + seconds, next(self._numbers), do))

    def run(self, until: float) -> None:
        while self._coming and self._coming[0][0] <= until:
            self.now, _, do = heapq.heappop(self._coming)
            do()


class Machine:
    """Cores that its processes share, first come, first served."""

    def __init__(self, clock: Clock, cores: float) -> None:
        self.clock = clock
        self._free = math.ceil(cores)
        self._slower = self._free / cores  # 1.8 cores are two that are slower
        self._waiting: deque[Process] = deque()

    def wants(self, process: "Process") -> None:
        self._waiting.append(process)
        self._go_on()

    def _go_on(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            process = self._waiting.popleft()
            ms, then = process.line.popleft()
            process.busy_s += ms / 1e3
            self.clock.after(ms * self._slower / 1e3, partial(self._done, process, then))

    def _done(self, process: "Process", then: Do) -> None:
        self._free += 1
        process.on = False
        then()
        process.wake()
        self._go_on()


class Process:
    """Does what is in its line, one after the other."""

    def __init__(self, machine: Machine) -> None:
        self.clock = machine.clock
        self._machine = machine
        self.line: deque[tuple[float, Do]] = deque()
        self.on = False
        self.busy_s = 0.0

    def do(self, ms: float, then: Do) -> None:
        self.line.append((ms, then))
        self.wake()

    def wake(self) -> None:
        if self.line and not self.on:
            self.on = True
            self._machine.wants(self)


@dataclass(slots=True)
class Item:
    """A forecast on its way: ``done`` is told when it is answered."""

    began_s: float
    ingress: "Ingress"
    done: Callable[["Item"], None]


@dataclass(slots=True)
class RuntimeLine:
    """A runtime: one call at a time, whoever sends it."""

    clock: Clock
    speed: Runtime
    calls: deque[tuple[int, Do]] = field(default_factory=deque)
    on: bool = False
    busy_s: float = 0.0
    sizes: list[int] = field(default_factory=list)

    def call(self, series: int, then: Do) -> None:
        self.calls.append((series, then))
        self._go_on()

    def _go_on(self) -> None:
        if self.on or not self.calls:
            return
        self.on = True
        series, then = self.calls.popleft()
        seconds = self.speed.call_ms(series) / 1e3
        self.busy_s += seconds
        self.sizes.append(series)
        self.clock.after(seconds, lambda: self._done(then))

    def _done(self, then: Do) -> None:
        self.on = False
        then()
        self._go_on()


@dataclass(slots=True, eq=False)
class Call:
    """A call under way; ``runs_from`` is infinite until the one before it is answered."""

    expected_s: float
    runs_from: float

    def next_from(self, lead_s: float) -> float:
        """When the next call may leave."""
        return self.runs_from + self.expected_s - min(lead_s, self.expected_s / 2)


class Runner:
    """Late binding: a batch is cut of all that waits when the slot is free, or soon will be."""

    def __init__(self, process: Process, runtime: RuntimeLine, costs: Costs) -> None:
        self.process = process
        self._runtime = runtime
        self._costs = costs
        self._most = runtime.speed.most_within(costs.prompt_s)
        self._waiting: deque[Item] = deque()
        self._calls: list[Call] = []
        self._stretch = 1.0  # how much longer the last call took than its series need

    def take(self, items: list[Item]) -> None:
        self.process.do(len(items) * self._costs.runner_ms / 4, lambda: self._taken(items))

    def _taken(self, items: list[Item]) -> None:
        self._waiting.extend(items)
        self._cut()

    def _cut(self) -> None:
        clock = self.process.clock
        while self._waiting and self._may_start(clock.now):
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most))]
            expected_s = self._runtime.speed.call_ms(len(batch)) / 1e3 * self._stretch
            call = Call(expected_s, math.inf if self._calls else clock.now)
            self._calls.append(call)
            self._wait_for_lead()
            ms = len(batch) * self._costs.runner_ms / 4  # a call is made within its slot, and read
            self.process.do(ms, partial(self._call, call, batch))

    def _may_start(self, now: float) -> bool:
        if len(self._calls) == 1:
            return self._calls[0].next_from(self._costs.lead_s) <= now + _SAME_MOMENT_S
        return not self._calls

    def _wait_for_lead(self) -> None:
        if len(self._calls) == 1 and self._costs.lead_s:
            clock, due = self.process.clock, self._calls[0].next_from(self._costs.lead_s)
            clock.after(max(0.0, due - clock.now), self._cut)

    def _call(self, call: Call, batch: list[Item]) -> None:
        wait_s = self._costs.wait_ms / 4e3
        answered = partial(self._answered, call, batch)
        self.process.clock.after(wait_s, lambda: self._runtime.call(len(batch), answered))

    def _answered(self, call: Call, batch: list[Item]) -> None:
        ms = len(batch) * self._costs.runner_ms / 4
        wait_s = self._costs.wait_ms / 4e3
        free = partial(self._free, call, batch)
        self.process.clock.after(wait_s, lambda: self.process.do(ms, free))

    def _free(self, call: Call, batch: list[Item]) -> None:
        now = self.process.clock.now
        self._stretch = (now - call.runs_from) / (self._runtime.speed.call_ms(len(batch)) / 1e3)
        self._calls.remove(call)
        for other in self._calls:
            other.runs_from = min(other.runs_from, now)
        self._wait_for_lead()
        self._cut()
        self.process.do(len(batch) * self._costs.runner_ms / 4, lambda: self._tell(batch))

    def _tell(self, batch: list[Item]) -> None:
        for item in batch:
            item.ingress.give(item)


class Ingress:
    """Parses, lets items share a call to one of the Runners, and writes answers."""

    def __init__(
        self, process: Process, runners: list[Runner], costs: Costs, chance: random.Random
    ) -> None:
        self.process = process
        self._runners = runners
        self._costs = costs
        self._chance = chance
        self._waiting: list[Item] = []
        self._next_s = 0.0
        self._timed = False

    def ask(self, item: Item) -> None:
        self.process.do(self._costs.ingress_ms / 2, lambda: self._share(item))

    def _share(self, item: Item) -> None:
        self._waiting.append(item)
        clock = self.process.clock
        if clock.now >= self._next_s:
            self._send()
        elif not self._timed:
            self._timed = True
            clock.after(self._next_s - clock.now, self._send)

    def _send(self) -> None:
        self._timed = False
        if self._waiting:
            items, self._waiting = self._waiting, []
            self._next_s = self.process.clock.now + self._costs.share_s
            runner = self._chance.choice(self._runners)
            self.process.clock.after(self._costs.wait_ms / 4e3, lambda: runner.take(items))

    def give(self, item: Item) -> None:
        ms = self._costs.ingress_ms / 2
        self.process.clock.after(
            self._costs.wait_ms / 4e3, lambda: self.process.do(ms, lambda: item.done(item))
        )
