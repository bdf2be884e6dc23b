"""However a call goes wrong, every item gets an answer of its own."""

import asyncio

import pytest

from runner.batching.batch_result import BatchResult
from runner.errors import (
    BadOutputError,
    RuntimeFailedError,
    RuntimeRejectedError,
    RuntimeTimeoutError,
)
from tests.support.virtual_time import VirtualTimeLoop
from tests.unit.runner.batching.dispatcher.dispatching import Desk, Runtime, answers


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualTimeLoop}


async def test_an_error_of_one_item_is_its_own():
    async def call(key, items):
        return BatchResult(["A", RuntimeRejectedError("bad series"), "C"])

    desk = Desk(call)
    first, second, third = await answers(desk.put_all("abc"))

    assert (first, third) == ("A", "C")
    assert isinstance(second, RuntimeRejectedError)


async def test_a_call_that_raises_fails_its_items_only_each_with_its_own_error():
    class FaultError(Exception):
        pass

    async def call(key, items):
        if items == ["a", "b"]:
            raise FaultError("secret input")
        return BatchResult(items)

    desk = Desk(call, max_batch_size=2)
    first, second, third = await answers(desk.put_all("abc"))

    assert isinstance(first, RuntimeFailedError)
    assert str(first) == "runtime_error: the call ended with FaultError"
    assert isinstance(first.__cause__, FaultError)
    assert isinstance(second, RuntimeFailedError)
    assert first is not second
    assert third == "c"


async def test_our_own_errors_keep_their_kind_when_a_call_raises_them():
    async def call(key, items):
        raise RuntimeTimeoutError("1.2 s")

    first, second = await answers(Desk(call).put_all("ab"))

    assert isinstance(first, RuntimeTimeoutError)
    assert first.note == "1.2 s"
    assert isinstance(first.__cause__, RuntimeTimeoutError)
    assert first is not second


async def test_a_call_that_fails_before_it_awaits_anything_is_like_any_other():
    def call(key, items):
        raise ValueError("not even a coroutine")

    assert isinstance((await answers([Desk(call).put("a")]))[0], RuntimeFailedError)


@pytest.mark.parametrize("results", [["A"], ["A", "B", "C"], []])
async def test_a_wrong_number_of_results_is_an_error_for_each_item(results):
    async def call(key, items):
        return BatchResult(results)

    first, second = await answers(Desk(call).put_all("ab"))

    assert isinstance(first, BadOutputError)
    assert first.note == f"{len(results)} results for 2 items"
    assert isinstance(second, BadOutputError)


async def test_a_call_that_gives_nonsense_is_an_error_for_each_item():
    async def call(key, items):
        return None

    assert isinstance((await answers([Desk(call).put("a")]))[0], RuntimeFailedError)


async def test_a_cancellation_inside_the_call_is_an_error_and_not_a_cancelled_caller():
    async def call(key, items):
        raise asyncio.CancelledError

    answer = (await answers([Desk(call).put("a")]))[0]

    assert isinstance(answer, RuntimeFailedError)
    assert str(answer) == "runtime_error: the call ended with CancelledError"


@pytest.mark.parametrize("stray", [asyncio.CancelledError(), StopIteration(), KeyboardInterrupt()])
async def test_results_that_no_future_takes_as_an_error_are_wrapped(stray):
    async def call(key, items):
        return BatchResult([stray, "B"])

    first, second = await answers(Desk(call).put_all("ab"))

    assert isinstance(first, RuntimeFailedError)
    assert first.__cause__ is stray
    assert second == "B"


async def test_the_slot_is_free_again_after_a_failed_call():
    runtime = Runtime()

    async def call(key, items):
        if items == ["a"]:
            raise ValueError
        return await runtime(key, items)

    desk = Desk(call)
    await answers([desk.put("a")])

    assert await desk.put("b") == "B"
