"""Who may wait, and how long calls may be meanwhile."""

import asyncio

import pytest

from runner.batching.batch_result import BatchResult
from runner.errors import (
    QueueFullError,
    RuntimeTimeoutError,
)
from tests.support.virtual_time import VirtualTimeLoop
from tests.unit.runner.batching.dispatcher.dispatching import BULK, Desk, Runtime, answers


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualTimeLoop}


async def test_an_interactive_item_that_would_wait_too_long_is_refused_at_once():
    runtime = Runtime(fixed_s=0.1)
    desk = Desk(runtime, max_wait_s=0.25, max_batch_size=2)
    await desk.put("t")  # from which the time of a call is known
    first = desk.put("a")
    await asyncio.sleep(0.01)
    waiting = desk.put_all("bc")

    with pytest.raises(QueueFullError, match="full"):
        desk.put("d")

    assert desk.lane().turned_away == 1
    assert await answers([first, *waiting]) == ["A", "B", "C"]


async def test_whoever_comes_while_a_slot_is_free_is_let_in_however_many_come_with_it():
    runtime = Runtime(fixed_s=0.1)
    desk = Desk(runtime, max_wait_s=0.05, max_batch_size=1)
    await desk.put("t")  # from which the time of a call is known

    together = desk.put_all("abc")

    assert await answers(together) == ["A", "B", "C"]


async def test_bulk_waits_in_line_for_as_long_as_interactive_items_are_refused():
    runtime = Runtime(fixed_s=0.1)
    desk = Desk(runtime, max_wait_s=0.25, max_batch_size=2)
    await desk.put("t")  # from which the time of a call is known
    first = desk.put("a")
    await asyncio.sleep(0.01)
    bulk = desk.put_all("xy", priority=BULK)
    waiting = desk.put_all("bc")
    with pytest.raises(QueueFullError, match="full"):
        desk.put("d")

    await answers([first, *waiting, *bulk])

    assert runtime.batches == ["t", "a", "bc", "xy"]


async def test_calls_are_shorter_while_interactive_items_come():
    runtime = Runtime(fixed_s=0.01, per_item_s=0.1)
    desk = Desk(runtime, max_batch_size=9, max_call_s=0.42, prompt_call_s=0.22)
    for lesson in ("abcd", "e", "abcd", "e"):
        await answers(desk.put_all(lesson, priority=BULK))

    await answers(desk.put_all("defghijk", priority=BULK))
    await answers([desk.put("l"), *desk.put_all("mnopq", priority=BULK)])

    assert runtime.batches[4:6] == ["defg", "hijk"]
    assert runtime.batches[6:] == ["lm", "no", "pq"]


async def test_lane_is_stuck_while_given_up_calls_hold_every_slot():
    ends = []

    async def gives_up(_, items):
        ends.append(asyncio.get_running_loop().create_future())
        return BatchResult([RuntimeTimeoutError() for _ in items], abandoned=ends[-1])

    desk = Desk(gives_up, slots_per_model=2, max_batch_size=1)
    seen = [desk.dispatcher.is_stuck("k")]
    for item in "ab":
        await answers([desk.put(item)])
        seen.append(desk.dispatcher.is_stuck("k"))
    others = desk.dispatcher.is_stuck("other")
    ends[0].set_result(None)
    await asyncio.sleep(0)

    assert seen == [False, False, True]
    assert not others
    assert not desk.dispatcher.is_stuck("k")
    ends[1].set_result(None)
