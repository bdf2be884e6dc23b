"""Calls that were given up while the runtime is still busy, and what they teach about time."""

import asyncio

import pytest

from runner.batching.batch_result import BatchResult
from runner.errors import (
    RuntimeFailedError,
    RuntimeRejectedError,
    RuntimeTimeoutError,
    TooLateError,
)
from tests.support.virtual_time import VirtualTimeLoop
from tests.unit.runner.batching.dispatcher.dispatching import Desk, Lingering, Runtime, answers


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualTimeLoop}


async def test_a_call_that_lingers_answers_its_items_but_keeps_its_slot():
    call = Lingering()
    desk = Desk(call)
    given_up = desk.put("a")
    await asyncio.sleep(0.5)
    waiting = desk.put("b")

    first = await answers([given_up])
    assert desk.now() == pytest.approx(1)
    assert desk.lane().in_flight == 1
    await answers([waiting])

    assert isinstance(first[0], RuntimeTimeoutError)
    assert call.started == pytest.approx([0, 3])


async def test_a_lingering_call_gives_its_slot_back_when_the_lease_ends():
    call = Lingering(busy_s=100)
    desk = Desk(call, lease_s=7.0)

    await answers([desk.put("a")])
    await answers([desk.put("b")])

    assert call.started == pytest.approx([0, 7])


async def test_a_lingering_call_that_ends_after_its_lease_frees_no_second_slot():
    call = Lingering(busy_s=10)
    desk = Desk(call, lease_s=7.0)
    await answers([desk.put("a")])
    await answers([desk.put("b")])
    await asyncio.sleep(10.5 - desk.now())

    assert desk.lane().in_flight == 1
    await answers([desk.put("c")])
    assert call.started == pytest.approx([0, 7, 14])


async def test_the_time_of_a_lingering_call_is_learned_to_its_end():
    call = Lingering()
    desk = Desk(call)
    await answers([desk.put("a")])
    await asyncio.sleep(2.5)

    late = await answers([desk.put("b", within_s=2.9)])

    assert isinstance(late[0], TooLateError)
    assert len(call.started) == 1


@pytest.mark.parametrize("how", ["cancel", "raise", "lease"])
async def test_a_lingering_call_without_a_proper_end_teaches_nothing(how):
    call = Lingering(timeout_s=1, busy_s=6)
    desk = Desk(call, lease_s=5.0)
    await answers([desk.put("a")])
    if how == "cancel":
        call.ends[0].cancel()
    if how == "raise":
        call.ends[0].set_exception(ConnectionError())
    await asyncio.sleep(4.5)

    desk.put("b", within_s=0.1)
    await asyncio.sleep(0.01)

    assert len(call.started) == 2


async def test_a_failed_call_teaches_nothing_about_time():
    runtime = Runtime(fixed_s=0.1)
    fails = [RuntimeFailedError()]

    async def call(key, items):
        outcome = await runtime(key, items)
        return BatchResult([fails.pop()]) if fails else outcome

    desk = Desk(call)
    await answers([desk.put("a")])
    desk.put("b", within_s=0.05)
    await asyncio.sleep(0.2)

    assert runtime.batches == ["a", "b"]


async def test_one_good_result_is_enough_to_learn_from():
    runtime = Runtime(fixed_s=0.1)

    async def call(key, items):
        await runtime(key, items)
        return BatchResult([RuntimeRejectedError(), "B"][: len(items)])

    desk = Desk(call)
    await answers(desk.put_all("ab"))

    assert isinstance((await answers([desk.put("c", within_s=0.01)]))[0], TooLateError)
    assert runtime.batches == ["ab"]


async def test_a_call_that_never_ends_is_cancelled_at_its_lease():
    never: list[asyncio.Future[None]] = []

    async def call(key, items):
        if items == ["a"]:
            never.append(asyncio.get_running_loop().create_future())
            await never[0]
        return BatchResult(items)

    desk = Desk(call, lease_s=5.0)
    first, second = desk.put("a"), None
    await asyncio.sleep(0.1)
    second = desk.put("b")

    assert isinstance((await answers([first]))[0], RuntimeFailedError)
    assert desk.now() == pytest.approx(5)
    assert await second == "b"


async def test_a_call_that_answers_its_lease_with_lingering_keeps_no_slot():
    async def call(key, items):
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return BatchResult([RuntimeTimeoutError()], abandoned=loop.create_future())

    desk = Desk(call, lease_s=5.0)

    assert isinstance((await answers([desk.put("a")]))[0], RuntimeTimeoutError)
    assert desk.lane().in_flight == 0


async def test_the_lease_of_a_call_that_ended_in_time_bothers_nobody():
    runtime = Runtime(fixed_s=3)
    desk = Desk(runtime, lease_s=5.0)
    await desk.put("a")

    assert await desk.put("b") == "B"
    assert desk.now() == pytest.approx(6)
