"""Callers who send one request after the other, and streams: how full the calls are.

A model of one machine in virtual time. Answers reach their callers one after the other, because
our processes share the cores; so all callers of a call are not back at once.
"""

import asyncio
import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from runner.batching.batch_policy import ReturningCallers
from runner.errors import QueueFullError
from tests.support.virtual_time import VirtualTimeLoop, run_virtual
from tests.unit.runner.batching.dispatcher.dispatching import BULK, Harness, Runtime
from tests.unit.runner.batching.dispatcher.test_dispatcher_overload import SETTINGS

SECONDS, WARM_UP_S = 6.0, 2.0
CPU_S, WAY_S = 0.0005, 0.004  # of each answer; on the way, without waiting for a core
BUSY_CPU_S = 0.0016  # the same where load generator and runtime share two cores with the service
MOCK = (0.037, 0.0009)  # tollama 0.1.0 on a quiet machine: seconds a call, and a series
SLOW = (0.095, 0.0025)  # the same on a busy one


@dataclass
class Loop:
    """Callers, an answering machine, and what was measured."""

    harness: Harness
    cpu_s: float = CPU_S
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    core_free_at: float = 0.0
    latencies: list[float] = field(default_factory=list)
    refused: int = 0

    async def ask(self) -> None:
        began = self.harness.now()
        try:
            await self.harness.put("x", within_s=1.3)
        except QueueFullError:
            self.refused += 1
        spent_s = self.cpu_s * self.rng.uniform(0.6, 1.4)
        self.core_free_at = max(self.core_free_at, self.harness.now()) + spent_s
        await asyncio.sleep(self.core_free_at + WAY_S - self.harness.now())
        if WARM_UP_S < self.harness.now() <= SECONDS:
            self.latencies.append(self.harness.now() - began)

    async def caller(self) -> None:
        await asyncio.sleep(self.rng.uniform(0, 0.01))
        while self.harness.now() < SECONDS:
            await self.ask()

    async def stream(self, per_second: float) -> None:
        asked = []
        while per_second and self.harness.now() < SECONDS:
            await asyncio.sleep(self.rng.expovariate(per_second))
            asked.append(asyncio.create_task(self.ask()))
        await asyncio.gather(*asked)

    @property
    def per_second(self) -> float:
        return len(self.latencies) / (SECONDS - WARM_UP_S)

    def percentile_s(self, percent: int) -> float:
        return sorted(self.latencies)[len(self.latencies) * percent // 100]


def run(
    speed: tuple[float, float], callers: int = 0, per_second: float = 0.0, cpu_s: float = CPU_S
) -> Loop:
    async def measured() -> Loop:
        loop = Loop(Harness(Runtime(*speed), **SETTINGS), cpu_s)
        work = [loop.caller() for _ in range(callers)]
        await asyncio.gather(loop.stream(per_second), *work)
        return loop

    return run_virtual(measured())


LOOPS = [
    *((MOCK, callers) for callers in (2, 8, 16, 32, 64, 128, 256)),
    *((SLOW, callers) for callers in (8, 32, 128)),
    *(((0.002, 0.00005), callers) for callers in (8, 64)),
    *(((0.002, 0.02), callers) for callers in (3, 16)),
    *(((0.3, 0.002), callers) for callers in (2, 16, 128)),
    *(((0.5, 0.00005), callers) for callers in (8, 128)),
]


@pytest.mark.parametrize(("speed", "callers"), LOOPS)
def test_callers_in_a_loop_share_calls(speed: tuple[float, float], callers: int) -> None:
    """Nearly as many answers as if all callers shared each call, and all waited alike."""
    fixed_s, per_item_s = speed
    in_step_s = fixed_s + WAY_S + (per_item_s + CPU_S) * callers

    loop = run(speed, callers)

    assert loop.per_second >= 0.9 * callers / in_step_s
    assert loop.percentile_s(99) <= 3 * loop.percentile_s(50)
    assert loop.refused == 0


@pytest.mark.parametrize(
    ("waits", "cpu_s", "shares"),
    [
        (True, CPU_S, (0.89, 0.83, 0.86, 0.84, 0.81, 0.76, 0.72, 0.77)),
        (True, BUSY_CPU_S, (0.87, 0.84, 0.79, 0.72, 0.58, 0.64, 0.72, 0.75)),
        (False, CPU_S, (0.89, 0.51, 0.53, 0.54, 0.58, 0.64, 0.72, 0.80)),
        (False, BUSY_CPU_S, (0.87, 0.51, 0.53, 0.54, 0.58, 0.64, 0.72, 0.75)),
    ],
)
def test_callers_in_a_loop_get_the_share_of_the_runtime_that_docs_name(
    waits: bool, cpu_s: float, shares: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of docs/performance.md, with calls that wait and without: 1, 2 ... 128 callers."""
    fixed_s, per_item_s = MOCK
    if not waits:
        monkeypatch.setattr(ReturningCallers, "hold_until", lambda _self, now, *_: now)

    for power, share in enumerate(shares):
        callers = 2**power
        found = run(MOCK, callers, cpu_s=cpu_s).per_second * (fixed_s / callers + per_item_s)
        assert found == pytest.approx(share, abs=0.006), callers


def test_callers_in_a_loop_are_as_fast_beside_a_stream() -> None:
    fixed_s, per_item_s = MOCK

    loop = run(MOCK, callers=32, per_second=20)

    assert loop.percentile_s(95) <= 2 * (fixed_s + per_item_s * 64)
    assert loop.refused == 0


@pytest.mark.parametrize("speed", [MOCK, SLOW, (0.002, 0.0005), (0.5, 0.0)])
def test_one_caller_never_waits(speed: tuple[float, float]) -> None:
    loop = run(speed, callers=1)

    assert max(loop.latencies) <= sum(speed) + WAY_S + 1.4 * CPU_S + 1e-6


@pytest.mark.parametrize("per_second", [5, 20, 50, 100, 200, 500])
def test_a_stream_is_answered_within_two_calls(per_second: float) -> None:
    """A call that runs already and one of its own, whose items arrived meanwhile."""
    fixed_s, per_item_s = MOCK
    call_s = fixed_s / (1 - per_item_s * per_second)  # as long as it takes to refill it

    loop = run(MOCK, per_second=per_second)

    assert loop.percentile_s(95) <= 2 * call_s + 0.02
    assert loop.refused == 0


def test_callers_of_a_slow_runtime_are_no_overload() -> None:
    """Their rate is more than short calls can serve, but they wait for their answers."""
    loop = run(SLOW, callers=96, per_second=5)

    assert loop.refused == 0


def test_callers_who_are_back_late_are_no_overload() -> None:
    """With so much work for an answer they are away for as long as a call takes."""
    loop = run((0.06, 0.002), callers=128, cpu_s=0.0027)

    assert loop.refused == 0


@pytest.mark.parametrize(("per_second", "p95_s", "refused"), [(185, 0.39, False), (260, 0.3, True)])
def test_a_stream_waits_as_long_as_docs_say(per_second: float, p95_s: float, refused: bool) -> None:
    """Full calls serve 308 a second, short ones 138: the items of calls count as unanswered."""
    loop = run(SLOW, per_second=per_second)

    assert loop.percentile_s(95) <= p95_s
    assert (loop.refused > 0) is refused


async def callers(harness: Harness, count: int, until: float, back_s: float = 0.011) -> None:
    """Callers who are back so long after their answer, or 1 ms later for each of them."""

    async def one(number: int) -> None:
        while harness.now() < until:
            await harness.put("x")
            await asyncio.sleep(back_s + 0.001 * number)

    await asyncio.gather(*map(one, range(count)))


async def test_no_slot_is_held_beyond_a_deadline() -> None:
    runtime = Runtime(*MOCK)
    harness = Harness(runtime, **SETTINGS)
    await callers(harness, 1, 0.5)
    others = asyncio.create_task(callers(harness, 8, 3.0))
    await asyncio.sleep(1.5)
    await harness.put("x")

    quick = await harness.put("q", within_s=0.045)  # the others are back after 18 ms

    assert quick == "Q"
    await others


@pytest.mark.parametrize(
    ("most", "back_s", "idle_s"),
    [
        (128, 0.011, 0.018),  # until all eight are back
        (4, 0.011, 0.001),  # the other four fill a call
        (128, 0.03, 0.0),  # they need more than half a call: two groups take turns
    ],
)
async def test_slot_is_held_until_the_call_is_full(most: int, back_s: float, idle_s: float) -> None:
    runtime = Runtime(*MOCK)

    await callers(Harness(runtime, **SETTINGS | {"max_batch_size": most}), 8, 2.0, back_s)

    idle = [b.started_at - a.ended_at for a, b in pairwise(runtime.calls) if 1.0 < a.ended_at < 1.9]
    assert max(idle) == pytest.approx(idle_s, abs=0.001)


@pytest.mark.parametrize("timer_share", [1.0, 0.9], ids=["timers on time", "early timers"])
async def test_held_slot_is_free_again_when_the_others_do_not_return(timer_share: float) -> None:
    now = asyncio.get_running_loop().time
    harness = Harness(Runtime(*MOCK), clock=lambda: timer_share * now(), **SETTINGS)
    await callers(harness, 8, 1.0)
    await asyncio.gather(*harness.put_all("x" * 8))

    began = harness.now()
    await harness.put("x")

    assert harness.now() - began < 0.1


async def test_no_slot_is_held_while_bulk_items_wait() -> None:
    runtime = Runtime(*MOCK)
    harness = Harness(runtime, **SETTINGS)
    await callers(harness, 8, 1.0)

    await asyncio.gather(callers(harness, 8, 2.0), *harness.put_all("y" * 300, priority=BULK))

    with_bulk = [call for call in runtime.calls if "y" in call.items]
    idle_s = [b.started_at - a.ended_at for a, b in pairwise(with_bulk)]
    assert max(idle_s) < 0.005


async def test_bulk_items_are_no_callers_who_return() -> None:
    runtime = Runtime(*MOCK)
    harness = Harness(runtime, **SETTINGS)

    async def bulk() -> None:
        for _ in range(10):
            await asyncio.gather(*harness.put_all("y" * 64, priority=BULK))

    await asyncio.gather(callers(harness, 8, 3.0), bulk())

    last = max(i for i, call in enumerate(runtime.calls) if "y" in call.items)
    assert [len(call.items) for call in runtime.calls[last + 2 : last + 5]] == [8, 8, 8]


async def test_a_held_slot_costs_one_timer() -> None:
    loop, harness = asyncio.get_running_loop(), Harness(Runtime(*MOCK), **SETTINGS)
    await callers(harness, 1, 0.5)
    await callers(harness, 8, 1.5)
    harness.put_all("x" * 8)
    await harness.put("x")
    assert isinstance(loop, VirtualTimeLoop)
    before = loop.timers_set

    for _ in range(4):
        harness.put("x")
        await asyncio.sleep(0)

    assert harness.queue_stats().in_flight == 0
    assert loop.timers_set <= before + 2  # of the hold, and of the earliest deadline
