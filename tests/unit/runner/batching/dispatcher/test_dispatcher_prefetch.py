"""The prefetch: a call that is sent shortly before its slot is free."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.batching.batch_policy import COMPANY_S, AdmissionControl
from runner.batching.batch_result import BatchResult
from runner.batching.dispatcher import ModelQueue, RuntimeCall
from runner.batching.queue import ItemQueue
from runner.errors import RuntimeTimeoutError, TooLateError
from runner.types import Priority
from tests.support.builders import make_config
from tests.support.virtual_time import run_virtual
from tests.unit.runner.batching.dispatcher.dispatching import Harness, answers

PACKING_S = 0.02
ROUNDING_S = 1e-6


@dataclass
class OneAtATime:
    """Needs ``fixed_s + per_item_s * n``, one call after the other; each is packed first."""

    fixed_s: float = 0.1
    per_item_s: float = 0.0
    packing_s: float = PACKING_S
    left_at: list[float] = field(default_factory=list)
    began_at: list[float] = field(default_factory=list)
    ended_at: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    under_way: int = 0
    most: int = 0

    def __post_init__(self) -> None:
        self.lock = asyncio.Lock()

    async def __call__(self, _: str, items: Sequence[Any]) -> BatchResult[Any]:
        now = asyncio.get_running_loop().time
        self.left_at.append(now())
        self.sizes.append(len(items))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(self.packing_s)
        async with self.lock:
            self.began_at.append(now())
            await asyncio.sleep(self.fixed_s + self.per_item_s * len(items))
            self.ended_at.append(now())
        self.under_way -= 1
        return BatchResult(list(items))

    @property
    def idle_s(self) -> list[float]:
        """How long it had nothing to do before each call but the first."""
        ends = zip(self.ended_at, self.began_at[1:], strict=False)
        return [began - ended for ended, began in ends]


@pytest.mark.parametrize(
    ("lead_s", "idle_s", "most"),
    [(0.0, [PACKING_S] * 3, 1), (0.05, [PACKING_S, 0.0, 0.0], 2)],
)
async def test_with_prefetch_the_runtime_is_not_idle_once_its_call_time_is_known(
    lead_s: float, idle_s: list[float], most: int
) -> None:
    runtime = OneAtATime()
    harness = Harness(runtime, max_batch_size=2, lead_s=lead_s)

    await answers(harness.put_all(range(8)))

    assert runtime.idle_s == pytest.approx(idle_s)
    assert runtime.most == most


async def test_a_prefetch_is_sent_at_most_half_a_call_early() -> None:
    runtime = OneAtATime(fixed_s=0.01, packing_s=0.0)
    harness = Harness(runtime, max_batch_size=1, lead_s=10.0)

    await answers(harness.put_all(range(4)))

    assert runtime.left_at == pytest.approx([0.0, 0.01, 0.015, 0.025])
    assert runtime.most == 2


async def test_an_item_that_arrives_after_the_prefetch_time_is_sent_at_once() -> None:
    runtime = OneAtATime(packing_s=0.0)
    harness = Harness(runtime, max_batch_size=4, lead_s=0.03)
    await harness.put("teaches")

    running = harness.put("a")
    await asyncio.sleep(0.09)
    late = harness.put("b")
    await answers([running, late])

    assert runtime.left_at == pytest.approx([0.0, 0.1, 0.19])


async def test_the_wait_of_a_prefetch_is_not_learned_as_call_time() -> None:
    runtime = OneAtATime(packing_s=0.0)
    harness = Harness(runtime, max_batch_size=1, lead_s=0.05)
    await answers(harness.put_all(range(20)))

    # two calls of 0.1 s: in time only if a call is not expected to take 0.15 s
    first, second = harness.put("a", within_s=0.21), harness.put("b", within_s=0.21)

    assert await answers([first, second]) == ["a", "b"]


async def test_a_prefetch_is_planned_from_when_the_runtime_will_begin_it() -> None:
    runtime = OneAtATime(packing_s=0.0)
    harness = Harness(runtime, max_batch_size=1, lead_s=0.05)
    await harness.put("teaches")

    first, second = harness.put("a"), harness.put("b", within_s=0.19)

    assert await first == "a"
    assert isinstance((await answers([second]))[0], TooLateError)
    assert len(runtime.left_at) == 2


async def test_no_prefetch_behind_an_abandoned_call() -> None:
    abandoned: list[Any] = []

    async def call(_: str, items: Sequence[Any]) -> BatchResult[Any]:
        await asyncio.sleep(0.1)
        if items[0] != "hangs":
            return BatchResult(list(items))
        abandoned.append(asyncio.get_running_loop().create_future())
        return BatchResult([RuntimeTimeoutError()], abandoned=abandoned[0])

    harness = Harness(call, max_batch_size=1, lead_s=0.01)
    await harness.put("teaches")
    hangs = harness.put("hangs")
    await answers([hangs])
    waits = harness.put("waits")
    await asyncio.sleep(5)
    held = harness.queue_stats()
    abandoned[0].set_result(None)

    assert (held.in_flight, held.queued) == (1, 1)
    assert await waits == "waits"


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.floats(0, 0.2), st.integers(1, 6)), min_size=1, max_size=30),
    st.floats(0, 0.2),
    st.integers(1, 3),
)
def test_there_is_at_most_one_call_more_than_slots_and_each_item_is_answered_once(
    arrivals: list[tuple[float, int]], lead_s: float, slots: int
) -> None:
    async def run() -> tuple[OneAtATime, list[Any]]:
        runtime = OneAtATime(per_item_s=0.01)
        harness = Harness(runtime, lead_s=lead_s, slots_per_model=slots)
        waiting = []
        for after_s, items in arrivals:
            await asyncio.sleep(after_s)
            waiting += harness.put_all([object() for _ in range(items)])
        await answers(waiting)
        assert harness.queue_stats().in_flight == 0
        return runtime, waiting

    runtime, waiting = run_virtual(run())

    assert runtime.most <= slots + (lead_s > 0)
    assert len({id(answer.result()) for answer in waiting}) == sum(runtime.sizes) == len(waiting)


async def test_a_prefetch_that_is_answered_first_took_the_time_since_it_was_sent():
    task = asyncio.create_task(OneAtATime()("k", ["a"]))
    settings = make_config().batching
    queue: ModelQueue[str, str, str] = ModelQueue(
        ItemQueue(8, 8), AdmissionControl(settings), settings
    )

    call = RuntimeCall(queue, [], started_at=2.0, expected_s=1.0, task=task)

    assert call.took_s(5.0) == 3.0
    await task


async def test_bulk_items_are_not_prefetched_while_interactive_ones_arrive() -> None:
    runtime = OneAtATime()
    harness = Harness(runtime, max_batch_size=2, lead_s=0.05)
    await harness.put("single")

    await answers(harness.put_all(range(4), priority=Priority.BULK))
    await asyncio.sleep(COMPANY_S)
    await answers(harness.put_all(range(4), priority=Priority.BULK))

    assert runtime.idle_s[1] == pytest.approx(
        PACKING_S
    )  # an interactive item would wait for one call only
    assert runtime.idle_s[3] == pytest.approx(0.0)  # no interactive item within COMPANY_S


async def test_an_interactive_item_is_prefetched_before_waiting_bulk_items() -> None:
    runtime = OneAtATime(packing_s=0.0)
    harness = Harness(runtime, max_batch_size=2, lead_s=0.05)
    await harness.put("single")
    bulk = harness.put_all(range(4), priority=Priority.BULK)
    await asyncio.sleep(0.06)
    single = harness.put("another")
    await answers([*bulk, single])

    assert runtime.left_at[:3] == pytest.approx([0.0, 0.1, 0.16])
