"""A call that leaves a moment before its slot is free, so that the runtime has no time to idle."""

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
from tests.support.virtual_time import VirtualTimeLoop, run_virtual
from tests.unit.runner.batching.dispatcher.dispatching import Desk, answers

PACKING_S = 0.02
ROUNDING_S = 1e-6


@pytest.fixture
def anyio_backend() -> Any:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


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


async def test_without_a_lead_the_runtime_idles_while_the_next_call_is_packed() -> None:
    runtime = OneAtATime()
    desk = Desk(runtime, max_batch_size=2)

    await answers(desk.put_all(range(8)))

    assert runtime.idle_s == pytest.approx([PACKING_S] * 3)
    assert runtime.most == 1


async def test_with_a_lead_it_goes_on_at_once_as_soon_as_the_time_of_a_call_is_known() -> None:
    runtime = OneAtATime()
    desk = Desk(runtime, max_batch_size=2, lead_s=0.05)

    await answers(desk.put_all(range(8)))

    assert runtime.idle_s == pytest.approx([PACKING_S, 0.0, 0.0])
    assert runtime.most == 2


async def test_a_call_leads_by_half_of_a_short_one_at_most() -> None:
    runtime = OneAtATime(fixed_s=0.01, packing_s=0.0)
    desk = Desk(runtime, max_batch_size=1, lead_s=10.0)

    await answers(desk.put_all(range(4)))

    assert runtime.left_at == pytest.approx([0.0, 0.01, 0.015, 0.025])
    assert runtime.most == 2


async def test_who_comes_when_the_next_call_might_have_left_leaves_at_once() -> None:
    runtime = OneAtATime(packing_s=0.0)
    desk = Desk(runtime, max_batch_size=4, lead_s=0.03)
    await desk.put("teaches")

    running = desk.put("a")
    await asyncio.sleep(0.09)
    late = desk.put("b")
    await answers([running, late])

    assert runtime.left_at == pytest.approx([0.0, 0.1, 0.19])


async def test_the_wait_for_the_call_before_is_not_taken_for_the_time_of_a_call() -> None:
    runtime = OneAtATime(packing_s=0.0)
    desk = Desk(runtime, max_batch_size=1, lead_s=0.05)
    await answers(desk.put_all(range(20)))

    # two calls of 0.1 s: in time only if nobody thinks that a call takes 0.15 s
    first, second = desk.put("a", within_s=0.21), desk.put("b", within_s=0.21)

    assert await answers([first, second]) == ["a", "b"]


async def test_a_call_that_would_lead_is_judged_by_when_it_will_begin() -> None:
    runtime = OneAtATime(packing_s=0.0)
    desk = Desk(runtime, max_batch_size=1, lead_s=0.05)
    await desk.put("teaches")

    first, second = desk.put("a"), desk.put("b", within_s=0.19)

    assert await first == "a"
    assert isinstance((await answers([second]))[0], TooLateError)
    assert len(runtime.left_at) == 2


async def test_nobody_follows_a_call_that_was_given_up() -> None:
    given_up: list[Any] = []

    async def call(_: str, items: Sequence[Any]) -> BatchResult[Any]:
        await asyncio.sleep(0.1)
        if items[0] != "hangs":
            return BatchResult(list(items))
        given_up.append(asyncio.get_running_loop().create_future())
        return BatchResult([RuntimeTimeoutError()], abandoned=given_up[0])

    desk = Desk(call, max_batch_size=1, lead_s=0.01)
    await desk.put("teaches")
    hangs = desk.put("hangs")
    await answers([hangs])
    waits = desk.put("waits")
    await asyncio.sleep(5)
    held = desk.lane()
    given_up[0].set_result(None)

    assert (held.in_flight, held.queued) == (1, 1)
    assert await waits == "waits"


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.floats(0, 0.2), st.integers(1, 6)), min_size=1, max_size=30),
    st.floats(0, 0.2),
    st.integers(1, 3),
)
def test_there_is_never_more_than_one_call_too_many_and_never_too_early(
    arrivals: list[tuple[float, int]], lead_s: float, slots: int
) -> None:
    async def story() -> tuple[OneAtATime, list[Any]]:
        runtime = OneAtATime(per_item_s=0.01)
        desk = Desk(runtime, lead_s=lead_s, slots_per_model=slots)
        waiting = []
        for after_s, items in arrivals:
            await asyncio.sleep(after_s)
            waiting += desk.put_all([object() for _ in range(items)])
        await answers(waiting)
        assert desk.lane().in_flight == 0
        return runtime, waiting

    runtime, waiting = run_virtual(story())

    assert runtime.most <= slots + (lead_s > 0)
    assert len({id(answer.result()) for answer in waiting}) == sum(runtime.sizes) == len(waiting)


async def test_a_call_that_is_answered_while_it_leads_took_all_the_time_since_it_left():
    task = asyncio.create_task(OneAtATime()("k", ["a"]))
    settings = make_config().batching
    lane: ModelQueue[str, str, str] = ModelQueue(
        ItemQueue(8, 8), AdmissionControl(settings), settings
    )

    call = RuntimeCall(lane, [], started_at=2.0, expected_s=1.0, task=task)

    assert call.took_s(5.0) == 3.0
    await task


async def test_bulk_items_do_not_lead_while_single_ones_come() -> None:
    runtime = OneAtATime()
    desk = Desk(runtime, max_batch_size=2, lead_s=0.05)
    await desk.put("single")

    await answers(desk.put_all(range(4), priority=Priority.BULK))
    await asyncio.sleep(COMPANY_S)
    await answers(desk.put_all(range(4), priority=Priority.BULK))

    assert runtime.idle_s[1] == pytest.approx(PACKING_S)  # whoever comes waits for one call only
    assert runtime.idle_s[3] == pytest.approx(0.0)  # nobody has come for a while


async def test_a_single_item_leads_although_bulk_items_were_held_back() -> None:
    runtime = OneAtATime(packing_s=0.0)
    desk = Desk(runtime, max_batch_size=2, lead_s=0.05)
    await desk.put("single")
    bulk = desk.put_all(range(4), priority=Priority.BULK)
    await asyncio.sleep(0.06)
    single = desk.put("another")
    await answers([*bulk, single])

    assert runtime.left_at[:3] == pytest.approx([0.0, 0.1, 0.16])
