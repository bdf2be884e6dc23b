"""Every item gets its own answer, however a call fails."""

import asyncio

import pytest

from runner.batching.batch_result import BatchResult
from runner.errors import (
    BadOutputError,
    RuntimeFailedError,
    RuntimeRejectedError,
    RuntimeTimeoutError,
)
from tests.unit.runner.batching.dispatcher.dispatching import Harness, answers


async def test_an_error_of_one_item_is_its_own():
    async def call(key, items):
        return BatchResult(["A", RuntimeRejectedError("bad series"), "C"])

    harness = Harness(call)
    first, second, third = await answers(harness.put_all("abc"))

    assert (first, third) == ("A", "C")
    assert isinstance(second, RuntimeRejectedError)


async def test_a_call_that_raises_fails_its_items_only_each_with_its_own_error():
    class FaultError(Exception):
        pass

    async def call(key, items):
        if items == ["a", "b"]:
            raise FaultError("secret input")
        return BatchResult(items)

    harness = Harness(call, max_batch_size=2)
    first, second, third = await answers(harness.put_all("abc"))

    assert isinstance(first, RuntimeFailedError)
    assert str(first) == "runtime_error: the call ended with FaultError"
    assert isinstance(first.__cause__, FaultError)
    assert isinstance(second, RuntimeFailedError)
    assert first is not second
    assert third == "c"


async def test_errors_of_this_project_keep_their_class():
    async def call(key, items):
        raise RuntimeTimeoutError("1.2 s")

    first, second = await answers(Harness(call).put_all("ab"))

    assert isinstance(first, RuntimeTimeoutError)
    assert first.note == "1.2 s"
    assert isinstance(first.__cause__, RuntimeTimeoutError)
    assert first is not second


@pytest.mark.parametrize("results", [["A"], ["A", "B", "C"]])
async def test_a_wrong_number_of_results_is_an_error_for_each_item(results):
    async def call(key, items):
        return BatchResult(results)

    first, second = await answers(Harness(call).put_all("ab"))

    assert isinstance(first, BadOutputError)
    assert first.note == f"{len(results)} results for 2 items"
    assert isinstance(second, BadOutputError)


async def test_a_cancellation_inside_the_call_is_an_error_and_not_a_cancelled_caller():
    async def call(key, items):
        raise asyncio.CancelledError

    answer = (await answers([Harness(call).put("a")]))[0]

    assert isinstance(answer, RuntimeFailedError)
    assert str(answer) == "runtime_error: the call ended with CancelledError"


@pytest.mark.parametrize("stray", [asyncio.CancelledError(), StopIteration(), KeyboardInterrupt()])
async def test_errors_that_a_future_refuses_are_wrapped(stray):
    async def call(key, items):
        return BatchResult([stray, "B"])

    first, second = await answers(Harness(call).put_all("ab"))

    assert isinstance(first, RuntimeFailedError)
    assert first.__cause__ is stray
    assert second == "B"
