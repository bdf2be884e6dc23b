"""Abandoned calls, leases, and which calls the latency model learns from."""

import asyncio

import pytest

from runner.batching.batch_result import BatchResult
from runner.errors import (
    RuntimeFailedError,
    RuntimeRejectedError,
    RuntimeTimeoutError,
    TooLateError,
)
from tests.unit.runner.batching.dispatcher.dispatching import (
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


async def test_one_good_result_is_enough_to_learn_from():
    runtime = Runtime(fixed_s=0.1)

    async def call(key, items):
        await runtime(key, items)
        return BatchResult([RuntimeRejectedError(), "B"][: len(items)])

    harness = Harness(call)
    await answers(harness.put_all("ab"))

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
