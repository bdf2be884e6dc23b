"""When items are sent, which may wait, which are too late, and their errors."""

import asyncio

import pytest

from runner.batching.dispatcher import BatchResult
from runner.errors import (
    BadOutputError,
    QueueFullError,
    RuntimeFailedError,
    RuntimeTimeoutError,
    TooLateError,
)
from tests.unit.runner.batching.dispatcher.dispatching import BULK, Harness, Runtime, answers


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


async def test_answers_are_handed_on_after_the_next_call_has_left_or_at_once_without_one():
    runtime = Runtime()
    harness = Harness(runtime, max_batch_size=1)
    first, last = harness.put_all("ab")
    await first

    assert runtime.calls[1].started_at < harness.now()
    await last
    assert harness.now() == runtime.calls[1].ended_at


async def test_answers_are_handed_on_even_if_the_next_call_cannot_be_chosen():
    chosen: list[str] = []

    def batch_limit(key):
        if chosen:
            raise KeyError(key)
        return 1

    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    harness = Harness(Runtime(), batch_limit=batch_limit)
    first, _ = harness.put_all("ab")
    await asyncio.sleep(0.05)
    chosen.append("a")

    assert await asyncio.wait_for(first, 1.0) == "A"
    assert faults


async def test_a_second_slot_is_used_and_a_third_call_waits():
    runtime = Runtime()
    harness = Harness(runtime, slots_per_model=2, max_batch_size=1)

    await answers(harness.put_all("abc"))

    assert [call.started_at for call in runtime.calls] == pytest.approx([0, 0, 0.1])


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


async def test_a_cancelled_item_makes_room_in_a_full_queue():
    harness = Harness(Runtime(), max_queued_items=1)
    running = harness.put("a")
    await asyncio.sleep(0.01)
    harness.put("b").cancel()
    await asyncio.sleep(0.01)

    assert harness.queue_stats().queued == 0
    assert await answers([running, harness.put("c")]) == ["A", "C"]


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


class FaultError(Exception):
    pass


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        (FaultError("secret"), RuntimeFailedError, "runtime_error: the call ended with FaultError"),
        (asyncio.CancelledError(), RuntimeFailedError, "the call ended with CancelledError"),
        (RuntimeTimeoutError("1.2 s"), RuntimeTimeoutError, "1.2 s"),
        (["A"], BadOutputError, "1 results for 2 items"),
        (["A", "B", "C"], BadOutputError, "3 results for 2 items"),
    ],
)
async def test_a_call_that_fails_fails_its_items_only_each_with_its_own_error(fault, error, text):
    async def call(key, items):
        if items == ["c"]:
            return BatchResult(["C"])
        if isinstance(fault, list):
            return BatchResult(fault)
        raise fault

    harness = Harness(call, max_batch_size=2)
    first, second, third = await answers(harness.put_all("abc"))

    assert type(first) is type(second) is error
    assert first is not second
    assert str(first).endswith(text)
    assert type(first.__cause__) is (BadOutputError if isinstance(fault, list) else type(fault))
    assert third == "C"


@pytest.mark.parametrize("stray", [asyncio.CancelledError(), StopIteration(), KeyboardInterrupt()])
async def test_errors_that_a_future_refuses_are_wrapped(stray):
    async def call(key, items):
        return BatchResult([stray, "B"])

    first, second = await answers(Harness(call).put_all("ab"))

    assert isinstance(first, RuntimeFailedError)
    assert first.__cause__ is stray
    assert second == "B"
