"""Items whose deadline has passed or whose caller has cancelled."""

import asyncio

import pytest

from runner.errors import (
    TooLateError,
)
from tests.unit.runner.batching.dispatcher.dispatching import Harness, Runtime, answers


async def test_a_queued_item_fails_at_its_deadline():
    harness = Harness(Runtime(fixed_s=5))
    running = harness.put("a")
    await asyncio.sleep(1)
    late, later = harness.put("b", within_s=2), harness.put("c", within_s=0.5)

    with pytest.raises(TooLateError, match="deadline"):
        await later
    assert harness.now() == pytest.approx(1.5)
    with pytest.raises(TooLateError, match="deadline"):
        await late
    assert harness.now() == pytest.approx(3)
    assert await running == "A"
    assert harness.now() == pytest.approx(5)


async def test_an_item_that_did_not_fit_into_a_call_fails_at_its_deadline():
    harness = Harness(Runtime(fixed_s=5), max_batch_size=1)
    _, late = harness.put_all("ab", within_s=2)

    with pytest.raises(TooLateError, match="deadline"):
        await late
    assert harness.now() == pytest.approx(2)


async def test_an_item_that_is_already_too_late_is_not_sent():
    runtime = Runtime()
    harness = Harness(runtime)

    assert isinstance((await answers([harness.put("a", within_s=0)]))[0], TooLateError)
    assert runtime.calls == []


async def test_an_item_that_cannot_be_in_time_fails_when_a_slot_is_free():
    runtime = Runtime(fixed_s=0.5)
    harness = Harness(runtime)
    await harness.put("a")

    late = harness.put("b", within_s=0.4)

    assert isinstance((await answers([late]))[0], TooLateError)
    assert harness.now() == pytest.approx(0.5)
    assert runtime.batches == ["a"]


async def test_a_slow_period_is_forgotten_so_that_items_are_sent_again():
    runtime = Runtime(fixed_s=2)
    harness = Harness(runtime, estimate_forgets_after_s=10)
    await harness.put("a")
    runtime.fixed_s = 0.1
    await asyncio.sleep(9.9)
    refused = await answers([harness.put("b", within_s=1)])
    await asyncio.sleep(0.2)

    accepted = await answers([harness.put("c", within_s=1)])

    assert isinstance(refused[0], TooLateError)
    assert accepted == ["C"]


async def test_a_cancelled_item_is_not_sent():
    runtime = Runtime()
    harness = Harness(runtime)
    gone, stays = harness.put_all("ab")
    gone.cancel()

    await stays

    assert runtime.batches == ["b"]
    assert harness.queue_stats().batch_sizes == (1,)


async def test_a_cancelled_item_makes_room_in_a_full_queue():
    harness = Harness(Runtime(), max_queued_items=1)
    running = harness.put("a")
    await asyncio.sleep(0.01)
    harness.put("b").cancel()
    await asyncio.sleep(0.01)

    assert harness.queue_stats().queued == 0
    assert await answers([running, harness.put("c")]) == ["A", "C"]


async def test_no_call_is_made_when_every_item_was_cancelled():
    runtime = Runtime()
    harness = Harness(runtime)
    harness.put("a").cancel()

    await asyncio.sleep(1)

    assert runtime.calls == []
    assert harness.queue_stats().in_flight == 0


async def test_an_item_cancelled_during_the_call_has_no_effect_on_others():
    harness = Harness(Runtime())
    gone, stays = harness.put_all("ab")
    await asyncio.sleep(0.05)
    gone.cancel()

    assert await stays == "B"
