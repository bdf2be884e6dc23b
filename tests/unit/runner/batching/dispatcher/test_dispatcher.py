import asyncio

import pytest

from runner.errors import (
    QueueFullError,
)
from tests.support.virtual_time import VirtualTimeLoop
from tests.unit.runner.batching.dispatcher.dispatching import BULK, Desk, Runtime, answers


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualTimeLoop}


async def test_each_item_gets_its_own_result():
    desk = Desk(Runtime())

    assert await answers(desk.put_all("abc")) == ["A", "B", "C"]


async def test_a_lone_item_is_sent_at_once():
    runtime = Runtime()
    desk = Desk(runtime)

    await desk.put("a")

    assert runtime.calls[0].started_at == 0
    assert desk.now() == pytest.approx(0.1)


async def test_items_of_one_turn_of_the_loop_travel_together():
    runtime = Runtime()
    desk = Desk(runtime)

    async def caller(item):
        return await desk.put(item)

    await asyncio.gather(*map(caller, "abc"))

    assert runtime.batches == ["abc"]


async def test_items_pool_while_the_slot_is_busy_and_go_the_moment_it_is_free():
    runtime = Runtime()
    desk = Desk(runtime)
    first = desk.put("a")
    for item in "bcdefg":
        await asyncio.sleep(0.01)
        later = desk.put(item)

    await asyncio.gather(first, later)

    assert runtime.batches == ["a", "bcde", "fg"]
    assert [call.started_at for call in runtime.calls] == pytest.approx([0, 0.1, 0.2])


async def test_a_second_slot_is_used_and_a_third_call_waits():
    runtime = Runtime()
    desk = Desk(runtime, slots_per_model=2, max_batch_size=1)

    await answers(desk.put_all("abc"))

    assert [call.started_at for call in runtime.calls] == pytest.approx([0, 0, 0.1])


async def test_lanes_do_not_wait_for_each_other():
    runtime = Runtime()
    desk = Desk(runtime)

    await answers([desk.put("a", key="k"), desk.put("b", key="other")])

    assert [call.started_at for call in runtime.calls] == [0, 0]


async def test_keys_of_one_lane_share_its_slot_but_no_call():
    runtime = Runtime()
    desk = Desk(runtime)

    await answers([desk.put("a", key="k1"), desk.put("b", key="k2"), desk.put("c", key="k1")])

    assert runtime.batches == ["ac", "b"]
    assert [call.key for call in runtime.calls] == ["k1", "k2"]
    assert runtime.calls[1].started_at == pytest.approx(0.1)


async def test_the_smaller_of_the_two_size_limits_holds():
    for limits in ({"max_batch_size": 2}, {"batch_limit": {"k": 2}.__getitem__}):
        runtime = Runtime()
        desk = Desk(runtime, **limits)

        await answers(desk.put_all("abc"))

        assert runtime.batches == ["ab", "c"]


async def test_a_call_stays_under_the_byte_limit():
    runtime = Runtime()
    desk = Desk(runtime, max_batch_bytes=10)

    await answers(desk.put_all("abc", size_bytes=4))

    assert runtime.batches == ["ab", "c"]


async def test_calls_of_a_slow_model_get_smaller_once_its_time_is_known():
    runtime = Runtime(fixed_s=0.1, per_item_s=0.1)
    desk = Desk(runtime, max_call_s=0.31)

    await answers(desk.put_all("abcdefghij"))

    assert runtime.batches == ["abcd", "ef", "gh", "ij"]


async def test_a_full_line_refuses_at_once_and_an_interactive_item_takes_a_bulk_place():
    desk = Desk(Runtime(), max_queued_items=2)
    running = desk.put("a")
    await asyncio.sleep(0.01)
    waiting = desk.put_all("bc", priority=BULK)

    with pytest.raises(QueueFullError, match="full"):
        desk.put("d", priority=BULK)
    urgent = desk.put("e")

    assert isinstance(waiting[1].exception(), QueueFullError)
    assert await answers([running, waiting[0], urgent]) == ["A", "B", "E"]


async def test_evicting_an_item_whose_caller_has_just_left_hurts_nobody():
    desk = Desk(Runtime(), max_queued_items=1)
    gone = desk.put("a", priority=BULK)
    gone.cancel()

    assert await desk.put("b") == "B"
