import asyncio

import pytest

from runner.errors import (
    QueueFullError,
)
from tests.unit.runner.batching.dispatcher.dispatching import BULK, Harness, Runtime, answers


async def test_a_lone_item_is_sent_at_once():
    runtime = Runtime()
    harness = Harness(runtime)

    await harness.put("a")

    assert runtime.calls[0].started_at == 0
    assert harness.now() == pytest.approx(0.1)


async def test_items_of_one_turn_of_the_loop_share_a_call():
    runtime = Runtime()
    harness = Harness(runtime)

    async def caller(item):
        return await harness.put(item)

    await asyncio.gather(*map(caller, "abc"))

    assert runtime.batches == ["abc"]


async def test_items_wait_while_the_slot_is_busy_and_are_sent_when_it_is_free():
    runtime = Runtime()
    harness = Harness(runtime)
    first = harness.put("a")
    for item in "bcdefg":
        await asyncio.sleep(0.01)
        later = harness.put(item)

    await asyncio.gather(first, later)

    assert runtime.batches == ["a", "bcde", "fg"]
    assert [call.started_at for call in runtime.calls] == pytest.approx([0, 0.1, 0.2])


async def test_a_second_slot_is_used_and_a_third_call_waits():
    runtime = Runtime()
    harness = Harness(runtime, slots_per_model=2, max_batch_size=1)

    await answers(harness.put_all("abc"))

    assert [call.started_at for call in runtime.calls] == pytest.approx([0, 0, 0.1])


async def test_keys_of_one_queue_share_its_slot_but_no_call():
    runtime = Runtime()
    harness = Harness(runtime)

    await answers(
        [harness.put("a", key="k1"), harness.put("b", key="k2"), harness.put("c", key="k1")]
    )

    assert runtime.batches == ["ac", "b"]
    assert [call.key for call in runtime.calls] == ["k1", "k2"]
    assert runtime.calls[1].started_at == pytest.approx(0.1)


async def test_the_smaller_of_the_two_size_limits_holds():
    for limits in ({"max_batch_size": 2}, {"batch_limit": {"k": 2}.__getitem__}):
        runtime = Runtime()
        harness = Harness(runtime, **limits)

        await answers(harness.put_all("abc"))

        assert runtime.batches == ["ab", "c"]


async def test_calls_of_a_slow_model_get_smaller_once_its_time_is_known():
    runtime = Runtime(fixed_s=0.1, per_item_s=0.1)
    harness = Harness(runtime, max_call_s=0.31)

    await answers(harness.put_all("abcdefghij"))

    assert runtime.batches == ["abcd", "ef", "gh", "ij"]


async def test_a_full_queue_refuses_bulk_and_removes_bulk_for_an_interactive_item():
    harness = Harness(Runtime(), max_queued_items=2)
    running = harness.put("a")
    await asyncio.sleep(0.01)
    waiting = harness.put_all("bc", priority=BULK)

    with pytest.raises(QueueFullError, match="full"):
        harness.put("d", priority=BULK)
    urgent = harness.put("e")

    assert isinstance(waiting[1].exception(), QueueFullError)
    assert await answers([running, waiting[0], urgent]) == ["A", "B", "E"]
