from typing import Any

import pytest

from runner.batching.batch_policy import (
    COMPANY_S,
    OVERLOAD_S,
    SLICE_S,
    AdmissionControl,
    ArrivalRate,
    BatchLimits,
)
from runner.batching.latency_model import UNKNOWN, CallLatency
from tests.support.builders import make_config

SLOW_CALLS = CallLatency(10, 0.5, 0.0, 0.0)  # seconds: 0.5 for any number of items
SLOW_ITEMS = CallLatency(10, 0.5, 0.05, 0.05)  # 0.05 for each


def make_admission(**changes: Any) -> AdmissionControl:
    values = {"max_call_s": 0.6, "prompt_call_s": 0.2, "max_wait_s": 0.5, "slots_per_model": 1}
    return AdmissionControl(make_config(batching=values | changes).batching)


def limits(
    *, max_items: int = 4, now: float = 0.0, latency: CallLatency = SLOW_ITEMS
) -> BatchLimits:
    return BatchLimits(max_items, max_items, 10**9, 1e9, latency, now)


@pytest.mark.parametrize(("alone_s", "longest_s"), [(0.0, 0.6), (0.48, 0.6), (0.8, 1.0)])
def test_the_longest_call_takes_more_than_one_item(alone_s: float, longest_s: float):
    assert make_admission().longest_call_s(CallLatency(1, alone_s, 0.0, 0.0)) == longest_s


# 4 items take 0.2 s; if one takes 0.16 s, a short call may take 1.5 times as long
@pytest.mark.parametrize(
    ("latency", "slots", "places"),
    [
        (SLOW_ITEMS, 1, 4),
        (SLOW_ITEMS, 2, 8),
        (CallLatency(1, 0.16, 0.0, 0.04), 1, 3),
        (CallLatency(1, 0.8, 0.0, 0.05), 1, 5),
    ],
)
def test_under_overload_the_items_of_a_short_call_may_wait(
    latency: CallLatency, slots: int, places: int
):
    admission = make_admission(slots_per_model=slots)
    admission.admits(99, 0, limits(now=0.0), 0.0)

    assert admission.admits(places - 1, 0, limits(max_items=50, latency=latency), 0.0)
    assert not admission.admits(places, 0, limits(max_items=50, latency=latency), 0.0)


def test_calls_with_bulk_items_are_short():
    admission = make_admission()

    assert admission.most_bulk(SLOW_ITEMS, 20) == 4  # prompt_call_s
    assert admission.most_bulk(SLOW_CALLS, 20) == 20  # 1.5 times one item


def test_interactive_items_are_expected_for_a_moment_after_one_arrived():
    admission = make_admission()
    before = admission.expects_interactive(0.0)
    admission.on_interactive_arrival(5.0)

    assert not before
    assert admission.expects_interactive(5.0 + COMPANY_S - 0.01)
    assert not admission.expects_interactive(5.0 + COMPANY_S)


def test_bulk_items_in_a_call_grow_step_by_step_while_interactive_items_are_expected():
    admission = make_admission()

    assert admission.most_bulk(UNKNOWN, 100) == 4
    assert admission.most_bulk(CallLatency(10, 0.05, 0.0, 0.0), 100) == 40


@pytest.mark.parametrize(
    ("ahead", "running_s", "settings", "now_limits", "admitted"),
    [
        (4, 0.0, {}, {}, True),  # the second call ends after 2 * 0.2
        (4, 0.1, {}, {}, True),
        (4, 0.11, {}, {}, False),
        (7, 0.1, {}, {}, True),
        (8, 0.0, {}, {}, False),  # the third one
        (3, 100.0, {"max_wait_s": 0.01}, {}, True),  # the next call, however long this one takes
        (7, 0.0, {"max_wait_s": 0.01, "slots_per_model": 2}, {}, True),  # one of the next two
        (8, 0.0, {"max_wait_s": 0.01, "slots_per_model": 2}, {}, False),
        (1000, 0.0, {"max_wait_s": 0.01}, {"latency": UNKNOWN}, True),
        (4, 0.3, {}, {"now": 50.0}, True),  # the call should have ended long ago
    ],
)
def test_an_item_that_would_wait_too_long_is_refused(
    ahead: int,
    running_s: float,
    settings: dict[str, Any],
    now_limits: dict[str, Any],
    admitted: bool,
):
    admission, now = make_admission(**settings), limits(**now_limits)
    admission.began(running_s, 0.0)

    assert admission.admits(ahead, 0, now, 0.0) is admitted
    assert admission.is_overloaded(now.now) is not admitted


SHORT, LONG, TOO_LONG = 3, 4, 8  # items ahead: waits of 0 (the next call), 0.4 and 0.6


def test_a_burst_may_wait_long():
    admission = make_admission()

    for _ in range(100):
        admission.on_interactive_arrival(10.0)

    assert admission.admits(LONG, 0, limits(now=10.0), 0.0)
    assert not admission.is_overloaded(10.0)


def arrive(admission: AdmissionControl, per_slice: int, slices: int = 3) -> float:
    """Items in each slice of time from 10.1 on; returns when the last one arrived."""
    for step in range(slices):
        for _ in range(per_slice):
            admission.on_interactive_arrival(now := 10.1 + step * SLICE_S)
    return now


# calls of 0.2 s take 4 items: 20 a second, 1.2 times of that is 6 in each slice
@pytest.mark.parametrize(
    ("settings", "per_slice", "latency", "returning", "is_overload"),
    [
        ({}, 6, SLOW_ITEMS, 0.0, False),
        ({}, 7, SLOW_ITEMS, 0.0, True),
        ({"slots_per_model": 2}, 12, SLOW_ITEMS, 0.0, False),
        ({"prompt_call_s": 0.6}, 20, CallLatency(10, 0.05, 0.005, 0.005), 0.0, False),
        ({}, 2, CallLatency(1, 0.1, 0.1, 0.1), 0.0, False),  # calls of one item serve it
        ({}, 20, SLOW_ITEMS, 0.8, False),  # most callers were just answered
    ],
)
def test_items_that_arrive_faster_than_short_calls_serve_them_are_overload(
    settings: dict[str, Any],
    per_slice: int,
    latency: CallLatency,
    returning: float,
    is_overload: bool,
):
    admission = make_admission(**settings)
    now = arrive(admission, per_slice)

    assert admission.admits(SHORT, 100, limits(now=now, latency=latency), returning)
    assert admission.is_overloaded(now) is is_overload


# of items of 0.05 s each 7 are in a call of LOOP_CALL_S
@pytest.mark.parametrize(("slots", "most", "callers"), [(1, 4, 4), (2, 4, 8), (1, 50, 7)])
def test_as_many_items_as_a_call_for_a_loop_holds_are_no_overload(
    slots: int, most: int, callers: int
):
    """They may be callers in a loop, however late these are back after their answers."""
    admission = make_admission(slots_per_model=slots)
    now = limits(now=arrive(admission, 50), max_items=most)

    assert admission.admits(SHORT, callers - SHORT - 1, now, 0.0)
    assert not admission.is_overloaded(now.now)
    admission.admits(SHORT, callers - SHORT, now, 0.0)
    assert admission.is_overloaded(now.now)


def test_only_arrivals_that_last_over_two_slices_count():
    rate = ArrivalRate()
    seen = []
    for now in (0.0, 0.0, SLICE_S, SLICE_S, SLICE_S, 2 * SLICE_S, 9 * SLICE_S):
        rate.add(now)
        seen.append(rate.lasting() * SLICE_S)

    assert seen == pytest.approx([0, 0, 0, 0, 0, 2, 0])


def test_a_queue_is_kept_short_until_no_item_was_refused_for_a_second():
    admission = make_admission()
    admission.admits(TOO_LONG, 0, limits(now=10.0), 0.0)
    admission.admits(SHORT, 0, limits(now=10.1), 0.0)
    admission.admits(LONG, 0, limits(now=10.2), 0.0)
    admission.admits(SHORT, 0, limits(now=10.3), 0.0)

    assert not admission.admits(LONG, 0, limits(now=10.2 + OVERLOAD_S - 0.01), 0.0)
    admission.admits(SHORT, 0, limits(now=11.3), 0.0)
    assert admission.admits(LONG, 0, limits(now=10.2 + 2 * OVERLOAD_S), 0.0)


def test_refusals_are_counted_for_the_longest_wait():
    admission = make_admission(max_wait_s=0.5)
    for now in (10.0, 10.2, 10.4):
        admission.admits(TOO_LONG, 0, limits(now=now), 0.0)
    admission.admits(0, 0, limits(now=10.4), 0.0)

    assert admission.turned_away(10.49) == 3
    assert admission.turned_away(10.5) == 2
    assert admission.turned_away(10.9) == 0


def test_refusals_are_counted_up_to_the_size_of_the_queue():
    admission = make_admission(max_queued_items=4)
    for _ in range(9):
        admission.admits(TOO_LONG, 0, limits(now=10.0), 0.0)

    assert admission.turned_away(10.0) == 4
