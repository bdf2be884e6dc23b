import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest

from runner.call_outcome import settle
from runner.dispatcher import CallOutcome, LaneStats
from runner.errors import (
    BadOutputError,
    QueueFullError,
    RuntimeFailedError,
    RuntimeRejectedError,
    RuntimeTimeoutError,
    TooLateError,
)
from tests.dispatching import BULK, Desk, Runtime, answers
from tests.virtual_time import NothingLeftToWaitForError, VirtualTimeLoop, run_virtual


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualTimeLoop}


async def test_each_item_gets_its_own_result():
    desk = Desk(Runtime())

    assert await answers(desk.put_all("abc")) == ["A", "B", "C"]


async def test_a_lone_item_is_sent_at_once():
    runtime = Runtime()
    desk = Desk(runtime)

    await desk.put("a")

    assert runtime.calls[0].started_at == 0
    assert desk.now() == pytest.approx(0.1)


async def test_items_of_one_turn_of_the_loop_travel_together():
    runtime = Runtime()
    desk = Desk(runtime)

    async def caller(item):
        return await desk.put(item)

    await asyncio.gather(*map(caller, "abc"))

    assert runtime.batches == ["abc"]


async def test_items_pool_while_the_slot_is_busy_and_go_the_moment_it_is_free():
    runtime = Runtime()
    desk = Desk(runtime)
    first = desk.put("a")
    for item in "bcdefg":
        await asyncio.sleep(0.01)
        later = desk.put(item)

    await asyncio.gather(first, later)

    assert runtime.batches == ["a", "bcde", "fg"]
    assert [call.started_at for call in runtime.calls] == pytest.approx([0, 0.1, 0.2])


async def test_a_second_slot_is_used_and_a_third_call_waits():
    runtime = Runtime()
    desk = Desk(runtime, slots_per_model=2, max_batch_size=1)

    await answers(desk.put_all("abc"))

    assert [call.started_at for call in runtime.calls] == pytest.approx([0, 0, 0.1])


async def test_lanes_do_not_wait_for_each_other():
    runtime = Runtime()
    desk = Desk(runtime)

    await answers([desk.put("a", key="k"), desk.put("b", key="other")])

    assert [call.started_at for call in runtime.calls] == [0, 0]


async def test_keys_of_one_lane_share_its_slot_but_no_call():
    runtime = Runtime()
    desk = Desk(runtime)

    await answers([desk.put("a", key="k1"), desk.put("b", key="k2"), desk.put("c", key="k1")])

    assert runtime.batches == ["ac", "b"]
    assert [call.key for call in runtime.calls] == ["k1", "k2"]
    assert runtime.calls[1].started_at == pytest.approx(0.1)


async def test_the_smaller_of_the_two_size_limits_holds():
    for limits in ({"max_batch_size": 2}, {"batch_limit": {"k": 2}.__getitem__}):
        runtime = Runtime()
        desk = Desk(runtime, **limits)

        await answers(desk.put_all("abc"))

        assert runtime.batches == ["ab", "c"]


async def test_a_call_stays_under_the_byte_limit():
    runtime = Runtime()
    desk = Desk(runtime, max_batch_bytes=10)

    await answers(desk.put_all("abc", size_bytes=4))

    assert runtime.batches == ["ab", "c"]


async def test_calls_of_a_slow_model_get_smaller_once_its_time_is_known():
    runtime = Runtime(fixed_s=0.1, per_item_s=0.1)
    desk = Desk(runtime, max_call_s=0.31)

    await answers(desk.put_all("abcdefghij"))

    assert runtime.batches == ["abcd", "ef", "gh", "ij"]


async def test_a_full_line_refuses_at_once_and_an_interactive_item_takes_a_bulk_place():
    desk = Desk(Runtime(), max_queued_items=2)
    running = desk.put("a")
    await asyncio.sleep(0.01)
    waiting = desk.put_all("bc", priority=BULK)

    with pytest.raises(QueueFullError, match="full"):
        desk.put("d", priority=BULK)
    urgent = desk.put("e")

    assert isinstance(waiting[1].exception(), QueueFullError)
    assert await answers([running, waiting[0], urgent]) == ["A", "B", "E"]


async def test_evicting_an_item_whose_caller_has_just_left_hurts_nobody():
    desk = Desk(Runtime(), max_queued_items=1)
    gone = desk.put("a", priority=BULK)
    gone.cancel()

    assert await desk.put("b") == "B"


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


async def test_an_error_of_one_item_is_its_own():
    async def call(key, items):
        return CallOutcome(["A", RuntimeRejectedError("bad series"), "C"])

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
        return CallOutcome(items)

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
        return CallOutcome(results)

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
        return CallOutcome([stray, "B"])

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


class Lingering:
    """Gives up after ``timeout_s`` while the runtime works on for ``busy_s`` in all."""

    def __init__(self, timeout_s=1.0, busy_s=3.0):
        self.timeout_s, self.busy_s = timeout_s, busy_s
        self.started: list[float] = []
        self.ends: list[asyncio.Future[None]] = []

    async def __call__(self, key, items):
        loop = asyncio.get_running_loop()
        self.started.append(loop.time())
        end: asyncio.Future[None] = loop.create_future()
        self.ends.append(end)
        loop.call_later(self.busy_s, settle, end, None)
        await asyncio.sleep(self.timeout_s)
        return CallOutcome([RuntimeTimeoutError() for _ in items], lingering=end)


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
        return CallOutcome([fails.pop()]) if fails else outcome

    desk = Desk(call)
    await answers([desk.put("a")])
    desk.put("b", within_s=0.05)
    await asyncio.sleep(0.2)

    assert runtime.batches == ["a", "b"]


async def test_one_good_result_is_enough_to_learn_from():
    runtime = Runtime(fixed_s=0.1)

    async def call(key, items):
        await runtime(key, items)
        return CallOutcome([RuntimeRejectedError(), "B"][: len(items)])

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
        return CallOutcome(items)

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
            return CallOutcome([RuntimeTimeoutError()], lingering=loop.create_future())

    desk = Desk(call, lease_s=5.0)

    assert isinstance((await answers([desk.put("a")]))[0], RuntimeTimeoutError)
    assert desk.lane().in_flight == 0


async def test_the_lease_of_a_call_that_ended_in_time_bothers_nobody():
    runtime = Runtime(fixed_s=3)
    desk = Desk(runtime, lease_s=5.0)
    await desk.put("a")

    assert await desk.put("b") == "B"
    assert desk.now() == pytest.approx(6)


class Payload:
    """Something a weak reference can point to."""


async def test_answered_items_are_not_kept_in_memory_until_the_lease_ends():
    async def call(key, items):
        return CallOutcome([None for _ in items])

    desk = Desk(call)
    item = Payload()
    kept = weakref.ref(item)
    await desk.put(item)

    del item
    await asyncio.sleep(0.01)
    gc.collect()

    assert kept() is None


async def test_a_lone_item_costs_no_timer_but_the_lease_of_its_call():
    async def call(key, items):
        return CallOutcome(items)

    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    before = loop.timers_set

    await Desk(call).put("a")
    await asyncio.sleep(0)

    assert loop.timers_set == before + 1


async def test_waiting_items_share_one_timer():
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    desk = Desk(Runtime())
    running = desk.put("a")
    await asyncio.sleep(0.01)
    before = loop.timers_set

    waiting = desk.put_all("b" * 500, within_s=0.1)

    assert loop.timers_set == before + 1
    waiting[-1].cancel()
    await asyncio.sleep(0.08)
    assert loop.timers_set == before + 2
    await answers([running, *waiting])


def test_closing_leaves_no_timer_behind():
    async def close_and_wait_for_ever() -> None:
        desk = Desk(Runtime(), lease_s=5.0)
        desk.put("a")
        await asyncio.sleep(0.01)
        desk.put("b", within_s=2)
        await desk.dispatcher.aclose()
        clock.append(desk.now)
        await asyncio.get_running_loop().create_future()

    clock: list[Callable[[], float]] = []

    with pytest.raises(NothingLeftToWaitForError, match="nothing left"):
        run_virtual(close_and_wait_for_ever())
    assert clock[0]() == pytest.approx(0.1)


async def test_stats_tell_what_waits_what_runs_and_how_large_the_calls_were():
    desk = Desk(Runtime())
    done = desk.put_all("abc")
    await asyncio.sleep(0.01)
    desk.put_all("de")
    desk.put("x", priority=BULK)
    await asyncio.sleep(0.04)

    lane = desk.lane()
    assert (lane.queued, lane.queued_bulk, lane.in_flight) == (3, 1, 1)
    assert lane.oldest_age_s == pytest.approx(0.04)
    assert lane.batch_sizes == (3,)
    await answers(done)
    await asyncio.sleep(1)
    assert desk.lane() == LaneStats(
        queued=0, queued_bulk=0, oldest_age_s=0.0, in_flight=0, batch_sizes=(3, 3)
    )


async def test_stats_keep_the_latest_64_sizes():
    desk = Desk(Runtime(), max_batch_size=2)
    await desk.put("a")

    await answers(desk.put_all("b" * 128))

    assert desk.lane().batch_sizes == (2,) * 64


async def test_closing_refuses_what_waits_and_what_comes_and_lets_calls_end():
    desk = Desk(Runtime())
    running = desk.put("a")
    await asyncio.sleep(0.01)
    waiting = desk.put("b", within_s=0.05)

    await desk.dispatcher.aclose()

    assert running.result() == "A"
    assert isinstance(waiting.exception(), QueueFullError)
    assert desk.now() == pytest.approx(0.1)
    with pytest.raises(QueueFullError, match="full"):
        desk.put("c")


async def test_closing_an_idle_dispatcher_returns_at_once():
    desk = Desk(Runtime())
    await desk.dispatcher.aclose()

    assert desk.now() == 0


async def test_closing_does_not_wait_for_a_lingering_call():
    desk = Desk(Lingering(timeout_s=1, busy_s=20))
    await answers([desk.put("a")])

    await desk.dispatcher.aclose()

    assert desk.now() == pytest.approx(1)
    assert desk.lane().in_flight == 0


async def test_closing_waits_for_a_hung_call_no_longer_than_its_lease():
    async def call(key, items):
        await asyncio.get_running_loop().create_future()

    desk = Desk(call, lease_s=5.0)
    hung = desk.put("a")
    await asyncio.sleep(1)

    await desk.dispatcher.aclose()

    assert isinstance(hung.exception(), RuntimeFailedError)
    assert desk.now() == pytest.approx(5)


async def test_an_interactive_item_that_would_wait_too_long_is_refused_at_once():
    runtime = Runtime(fixed_s=0.1)
    desk = Desk(runtime, max_wait_s=0.25, max_batch_size=2)
    await desk.put("t")  # from which the time of a call is known
    first = desk.put("a")
    await asyncio.sleep(0.01)
    waiting = desk.put_all("bc")

    with pytest.raises(QueueFullError, match="full"):
        desk.put("d")

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
        return CallOutcome([RuntimeTimeoutError() for _ in items], lingering=ends[-1])

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
