"""Items that nobody waits for any more: too late, or left."""

import asyncio

import pytest

from runner.errors import (
    TooLateError,
)
from tests.support.virtual_time import VirtualTimeLoop
from tests.unit.runner.batching.dispatcher.dispatching import Desk, Runtime, answers


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualTimeLoop}


async def test_an_item_whose_deadline_passes_in_line_is_answered_at_its_deadline():
    desk = Desk(Runtime(fixed_s=5))
    running = desk.put("a")
    await asyncio.sleep(1)
    late, later = desk.put("b", within_s=2), desk.put("c", within_s=0.5)

    with pytest.raises(TooLateError, match="deadline"):
        await later
    assert desk.now() == pytest.approx(1.5)
    with pytest.raises(TooLateError, match="deadline"):
        await late
    assert desk.now() == pytest.approx(3)
    assert await running == "A"
    assert desk.now() == pytest.approx(5)


async def test_deadlines_of_items_left_in_line_by_a_cut_are_watched_too():
    desk = Desk(Runtime(fixed_s=5), max_batch_size=1)
    _, late = desk.put_all("ab", within_s=2)

    with pytest.raises(TooLateError, match="deadline"):
        await late
    assert desk.now() == pytest.approx(2)


async def test_an_item_that_is_already_too_late_is_not_sent():
    runtime = Runtime()
    desk = Desk(runtime)

    assert isinstance((await answers([desk.put("a", within_s=0)]))[0], TooLateError)
    assert runtime.calls == []


async def test_an_item_that_cannot_be_in_time_is_told_so_when_a_slot_is_free():
    runtime = Runtime(fixed_s=0.5)
    desk = Desk(runtime)
    await desk.put("a")

    late = desk.put("b", within_s=0.4)

    assert isinstance((await answers([late]))[0], TooLateError)
    assert desk.now() == pytest.approx(0.5)
    assert runtime.batches == ["a"]


async def test_a_slow_spell_is_forgotten_so_that_items_are_sent_again():
    runtime = Runtime(fixed_s=2)
    desk = Desk(runtime, estimate_forgets_after_s=10)
    await desk.put("a")
    runtime.fixed_s = 0.1
    await asyncio.sleep(9.9)
    refused = await answers([desk.put("b", within_s=1)])
    await asyncio.sleep(0.2)

    accepted = await answers([desk.put("c", within_s=1)])

    assert isinstance(refused[0], TooLateError)
    assert accepted == ["C"]


async def test_an_item_whose_caller_left_is_not_sent():
    runtime = Runtime()
    desk = Desk(runtime)
    running = desk.put("a")
    await asyncio.sleep(0.01)
    gone, stays = desk.put_all("bc")
    gone.cancel()

    await answers([running, stays])

    assert runtime.batches == ["a", "c"]


async def test_an_item_whose_caller_left_before_the_first_cut_is_not_sent():
    runtime = Runtime()
    desk = Desk(runtime)
    gone, stays = desk.put_all("ab")
    gone.cancel()

    await stays

    assert runtime.batches == ["b"]
    assert desk.lane().batch_sizes == (1,)


async def test_an_item_whose_caller_left_makes_room_in_a_full_line():
    desk = Desk(Runtime(), max_queued_items=1)
    running = desk.put("a")
    await asyncio.sleep(0.01)
    desk.put("b").cancel()
    await asyncio.sleep(0.01)

    assert desk.lane().queued == 0
    assert await answers([running, desk.put("c")]) == ["A", "C"]


async def test_no_call_is_made_when_every_caller_left_before_the_cut():
    runtime = Runtime()
    desk = Desk(runtime)
    desk.put("a").cancel()

    await asyncio.sleep(1)

    assert runtime.calls == []
    assert desk.lane().in_flight == 0


async def test_a_caller_who_leaves_during_the_call_hurts_nobody_else():
    desk = Desk(Runtime())
    gone, stays = desk.put_all("ab")
    await asyncio.sleep(0.05)
    gone.cancel()

    assert await stays == "B"
