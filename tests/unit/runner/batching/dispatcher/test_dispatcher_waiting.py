"""Which items may wait, and how long calls are meanwhile."""

import asyncio

import pytest

from runner.batching.batch_result import BatchResult
from runner.errors import (
    QueueFullError,
    RuntimeTimeoutError,
)
from tests.unit.runner.batching.dispatcher.dispatching import BULK, Harness, Runtime, answers


async def test_an_interactive_item_that_would_wait_too_long_is_refused_at_once():
    runtime = Runtime(fixed_s=0.1)
    harness = Harness(runtime, max_wait_s=0.25, max_batch_size=2)
    await harness.put("t")  # from which the time of a call is known
    first = harness.put("a")
    await asyncio.sleep(0.01)
    waiting = harness.put_all("bc")

    with pytest.raises(QueueFullError, match="full"):
        harness.put("d")

    assert harness.queue_stats().turned_away == 1
    assert await answers([first, *waiting]) == ["A", "B", "C"]


async def test_items_that_arrive_while_a_slot_is_free_are_all_admitted():
    runtime = Runtime(fixed_s=0.1)
    harness = Harness(runtime, max_wait_s=0.05, max_batch_size=1)
    await harness.put("t")  # from which the time of a call is known

    together = harness.put_all("abc")

    assert await answers(together) == ["A", "B", "C"]


async def test_bulk_stays_in_the_queue_while_interactive_items_are_refused():
    runtime = Runtime(fixed_s=0.1)
    harness = Harness(runtime, max_wait_s=0.25, max_batch_size=2)
    await harness.put("t")  # from which the time of a call is known
    first = harness.put("a")
    await asyncio.sleep(0.01)
    bulk = harness.put_all("xy", priority=BULK)
    waiting = harness.put_all("bc")
    with pytest.raises(QueueFullError, match="full"):
        harness.put("d")

    await answers([first, *waiting, *bulk])

    assert runtime.batches == ["t", "a", "bc", "xy"]


async def test_calls_are_shorter_while_interactive_items_arrive():
    runtime = Runtime(fixed_s=0.01, per_item_s=0.1)
    harness = Harness(runtime, max_batch_size=9, max_call_s=0.42, prompt_call_s=0.22)
    for lesson in ("abcd", "e", "abcd", "e"):
        await answers(harness.put_all(lesson, priority=BULK))

    await answers(harness.put_all("defghijk", priority=BULK))
    await answers([harness.put("l"), *harness.put_all("mnopq", priority=BULK)])

    assert runtime.batches[4:6] == ["defg", "hijk"]
    assert runtime.batches[6:] == ["lm", "no", "pq"]


async def test_queue_is_stuck_while_abandoned_calls_hold_every_slot():
    ends = []

    async def abandons(_, items):
        ends.append(asyncio.get_running_loop().create_future())
        return BatchResult([RuntimeTimeoutError() for _ in items], abandoned=ends[-1])

    harness = Harness(abandons, slots_per_model=2, max_batch_size=1)
    seen = [harness.dispatcher.is_stuck("k")]
    for item in "ab":
        await answers([harness.put(item)])
        seen.append(harness.dispatcher.is_stuck("k"))
    others = harness.dispatcher.is_stuck("other")
    ends[0].set_result(None)
    await asyncio.sleep(0)

    assert seen == [False, False, True]
    assert not others
    assert not harness.dispatcher.is_stuck("k")
    ends[1].set_result(None)
