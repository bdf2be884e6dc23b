"""Abandoned calls and leases, learning, memory, timers, statistics and closing."""

import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest

from runner.batching.dispatcher import BatchResult, QueueStats
from runner.errors import (
    QueueFullError,
    RuntimeFailedError,
    RuntimeRejectedError,
    RuntimeTimeoutError,
    TooLateError,
)
from tests.support.virtual_time import NothingLeftToWaitForError, VirtualTimeLoop, run_virtual
from tests.unit.runner.batching.dispatcher.dispatching import (
    BULK,
    AbandonedCalls,
    Harness,
    Runtime,
    answers,
)


async def test_an_abandoned_call_answers_its_items_but_keeps_its_slot():
    call = AbandonedCalls()
    harness = Harness(call)
    abandoned = harness.put("a")
    await asyncio.sleep(0.5)
    waiting = harness.put("b")

    first = await answers([abandoned])
    assert harness.now() == pytest.approx(1)
    assert harness.queue_stats().in_flight == 1
    await answers([waiting])

    assert isinstance(first[0], RuntimeTimeoutError)
    assert call.started == pytest.approx([0, 3])


async def test_the_slot_of_an_abandoned_call_is_free_when_its_lease_ends():
    call = AbandonedCalls(busy_s=100)
    harness = Harness(call, lease_s=7.0)

    await answers([harness.put("a")])
    await answers([harness.put("b")])

    assert call.started == pytest.approx([0, 7])


async def test_the_time_of_an_abandoned_call_is_learned_up_to_its_end():
    call = AbandonedCalls()
    harness = Harness(call)
    await answers([harness.put("a")])
    await asyncio.sleep(2.5)

    late = await answers([harness.put("b", within_s=2.9)])

    assert isinstance(late[0], TooLateError)
    assert len(call.started) == 1


@pytest.mark.parametrize("how", ["cancel", "raise", "lease"])
async def test_nothing_is_learned_from_an_abandoned_call_without_an_answer(how):
    call = AbandonedCalls(timeout_s=1, busy_s=6)
    harness = Harness(call, lease_s=5.0)
    await answers([harness.put("a")])
    if how == "cancel":
        call.ends[0].cancel()
    if how == "raise":
        call.ends[0].set_exception(ConnectionError())
    await asyncio.sleep(4.5)

    harness.put("b", within_s=0.1)
    await asyncio.sleep(0.01)

    assert len(call.started) == 2


async def test_nothing_is_learned_from_a_failed_call():
    runtime = Runtime(fixed_s=0.1)
    fails = [RuntimeFailedError()]

    async def call(key, items):
        outcome = await runtime(key, items)
        return BatchResult([fails.pop()]) if fails else outcome

    harness = Harness(call)
    await answers([harness.put("a")])
    harness.put("b", within_s=0.05)
    await asyncio.sleep(0.2)

    assert runtime.batches == ["a", "b"]


async def test_an_error_of_one_item_is_its_own_and_one_good_result_is_enough_to_learn_from():
    runtime = Runtime(fixed_s=0.1)

    async def call(key, items):
        await runtime(key, items)
        return BatchResult([RuntimeRejectedError(), "B"][: len(items)])

    harness = Harness(call)
    rejected, answered = await answers(harness.put_all("ab"))

    assert (type(rejected), answered) == (RuntimeRejectedError, "B")
    assert isinstance((await answers([harness.put("c", within_s=0.01)]))[0], TooLateError)
    assert runtime.batches == ["ab"]


async def test_a_call_abandoned_at_the_end_of_its_lease_keeps_no_slot():
    async def call(key, items):
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return BatchResult([RuntimeTimeoutError()], abandoned=loop.create_future())

    harness = Harness(call, lease_s=5.0)

    assert isinstance((await answers([harness.put("a")]))[0], RuntimeTimeoutError)
    assert harness.queue_stats().in_flight == 0


class Payload:
    """Something a weak reference can point to."""


async def test_answered_items_are_not_kept_in_memory_until_the_lease_ends():
    async def call(key, items):
        return BatchResult([None for _ in items])

    harness = Harness(call)
    item = Payload()
    kept = weakref.ref(item)
    await harness.put(item)

    del item
    await asyncio.sleep(0.01)
    gc.collect()

    assert kept() is None


async def test_waiting_items_share_one_timer():
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    harness = Harness(Runtime())
    running = harness.put("a")
    await asyncio.sleep(0.01)
    before = loop.timers_set

    waiting = harness.put_all("b" * 500, within_s=0.1)

    assert loop.timers_set == before + 1
    waiting[-1].cancel()
    await asyncio.sleep(0.08)
    assert loop.timers_set == before + 2
    await answers([running, *waiting])


async def test_stats_count_queued_items_calls_and_call_sizes():
    harness = Harness(Runtime())
    done = harness.put_all("abc")
    await asyncio.sleep(0.01)
    harness.put_all("de")
    harness.put("x", priority=BULK)
    await asyncio.sleep(0.04)

    queue = harness.queue_stats()
    assert (queue.queued, queue.queued_bulk, queue.in_flight) == (3, 1, 1)
    assert queue.oldest_age_s == pytest.approx(0.04)
    assert queue.batch_sizes == (3,)
    await answers(done)
    await asyncio.sleep(1)
    assert harness.queue_stats() == QueueStats(
        queued=0,
        queued_bulk=0,
        oldest_age_s=0.0,
        in_flight=0,
        batch_sizes=(3, 3),
        turned_away=0,
    )


def test_closing_refuses_other_items_and_waits_for_calls_and_leaves_no_timer_behind():
    async def close_and_wait() -> None:
        harness = Harness(Runtime(), lease_s=5.0)
        running = harness.put("a")
        await asyncio.sleep(0.01)
        waiting = harness.put("b", within_s=2)

        await harness.dispatcher.aclose()

        assert running.result() == "A"
        assert isinstance(waiting.exception(), QueueFullError)
        with pytest.raises(QueueFullError, match="full"):
            harness.put("c")
        clock.append(harness.now)
        await asyncio.get_running_loop().create_future()

    clock: list[Callable[[], float]] = []

    with pytest.raises(NothingLeftToWaitForError, match="nothing left"):
        run_virtual(close_and_wait())
    assert clock[0]() == pytest.approx(0.1)


async def test_closing_does_not_wait_for_an_abandoned_call():
    harness = Harness(AbandonedCalls(timeout_s=1, busy_s=20))
    await answers([harness.put("a")])

    await harness.dispatcher.aclose()

    assert harness.now() == pytest.approx(1)
    assert harness.queue_stats().in_flight == 0


async def test_closing_waits_for_a_hung_call_no_longer_than_its_lease():
    async def call(key, items):
        await asyncio.get_running_loop().create_future()

    harness = Harness(call, lease_s=5.0)
    hung = harness.put("a")
    await asyncio.sleep(1)

    await harness.dispatcher.aclose()

    assert isinstance(hung.exception(), RuntimeFailedError)
    assert harness.now() == pytest.approx(5)
