from math import inf
from typing import Any

import pytest

from runner.batching.batch_policy import (
    BURST_S,
    COMPANY_S,
    OVERLOAD_S,
    AdmissionControl,
    BatchLimits,
)
from runner.batching.latency_model import UNKNOWN, CallLatency
from tests.support.builders import make_config

DEAR_CALLS = CallLatency(10, 0.5, 0.0, 0.0)  # seconds: 0.5 for any number of items
EXACT = CallLatency(4, 0.25, 0.0, 0.0)  # sums of it are no hair beside a limit
DEAR_ITEMS = CallLatency(10, 0.5, 0.05, 0.05)  # 0.05 for each


def admission(**changes: Any) -> AdmissionControl:
    values = {"max_call_s": 0.6, "prompt_call_s": 0.2, "max_wait_s": 0.5, "slots_per_model": 1}
    patience = {"overload_wait_s": changes.get("max_wait_s", 0.5)}
    return AdmissionControl(make_config(batching=values | patience | changes).batching)


def limits(
    *, max_items: int = 4, now: float = 0.0, latency: CallLatency = DEAR_ITEMS
) -> BatchLimits:
    return BatchLimits(max_items, max_items, 10**9, 1e9, latency, now)


def test_calls_are_short_while_interactive_items_come_and_long_again_after_a_moment():
    lane = admission()
    before = lane.longest_call_s(DEAR_ITEMS, 0.0)
    lane.on_interactive_arrival(5.0)

    assert before == 0.6
    assert lane.longest_call_s(DEAR_ITEMS, 5.0 + COMPANY_S - 0.01) == 0.2
    assert lane.longest_call_s(DEAR_ITEMS, 5.0 + COMPANY_S) == 0.6


@pytest.mark.parametrize(
    ("latency", "longest_s"),
    [(CallLatency(10, 0.4, 0.0, 0.0), 0.6), (CallLatency(1, 0.16, 0.0, 0.0), 0.24), (UNKNOWN, 0.2)],
)
def test_no_call_is_cut_below_half_more_than_a_single_item_takes_nor_over_the_limit(
    latency: CallLatency, longest_s: float
):
    lane = admission()
    lane.on_interactive_arrival(0.0)

    assert lane.longest_call_s(latency, 0.0) == longest_s


@pytest.mark.parametrize("greeted_at", [0.0, -2 * COMPANY_S])
@pytest.mark.parametrize(("alone_s", "longest_s"), [(0.48, 0.6), (0.8, 1.0)])
def test_where_a_single_item_takes_as_long_as_a_call_may_others_still_come_along(
    alone_s: float, longest_s: float, greeted_at: float
):
    lane = admission()
    lane.on_interactive_arrival(greeted_at)

    assert lane.longest_call_s(CallLatency(10, alone_s, 0.0, 0.0), 0.0) == longest_s


def test_bulk_items_in_a_call_grow_step_by_step_while_interactive_items_are_expected():
    control = admission()
    before = control.most_bulk(UNKNOWN, 0.0)
    control.on_interactive_arrival(5.0)

    assert before == inf
    assert control.most_bulk(UNKNOWN, 5.0) == 4
    assert control.most_bulk(DEAR_ITEMS, 5.0) == 40
    assert control.most_bulk(DEAR_ITEMS, 5.0 + COMPANY_S) == inf


def test_whoever_is_in_the_next_call_is_let_in_however_long_that_takes():
    lane = admission(max_wait_s=0.01)
    lane.began(100.0, 0.0)

    assert lane.admits(3, limits())
    assert not lane.holds_bulk(0.0)


@pytest.mark.parametrize(
    ("ahead", "running_s", "admitted"),
    [
        (4, 0.0, True),  # the second call ends after 2 * 0.2
        (4, 0.1, True),
        (4, 0.11, False),
        (7, 0.1, True),
        (8, 0.0, False),  # the third one
    ],
)
def test_whoever_would_wait_too_long_is_turned_away(ahead: int, running_s: float, admitted: bool):
    lane = admission()
    lane.began(running_s, 0.0)

    assert lane.admits(ahead, limits()) is admitted
    assert lane.holds_bulk(0.0) is not admitted


def test_a_call_that_should_have_ended_counts_as_if_it_ended_now():
    lane = admission()
    lane.began(0.3, 0.0)

    assert lane.admits(4, limits(now=50.0))


def test_with_more_slots_more_are_in_the_next_calls():
    lane = admission(slots_per_model=2, max_wait_s=0.01)

    assert lane.admits(7, limits())
    assert not lane.admits(8, limits())


def test_nobody_is_turned_away_while_nothing_is_known_of_the_model():
    assert admission(max_wait_s=0.01).admits(1000, limits(latency=UNKNOWN))


SHORT, LONG, TOO_LONG = 3, 4, 8  # items ahead: waits of 0 (the next call), 0.4 and 0.6


def test_a_burst_may_wait_long():
    lane = admission(overload_wait_s=0.3)

    answers = [lane.admits(LONG, limits(now=step * BURST_S / 10)) for step in range(10)]

    assert all(answers)
    assert not lane.holds_bulk(BURST_S)


def test_a_wait_of_just_the_limit_is_no_long_line():
    lane = admission(overload_wait_s=0.5, max_wait_s=1.0)

    moments = [step * BURST_S for step in range(3)]
    answers = [lane.admits(LONG, limits(now=now, latency=EXACT)) for now in moments]

    assert all(answers)


def test_a_burst_may_wait_just_as_long_as_is_allowed():
    lane = admission(overload_wait_s=0.25, max_wait_s=0.5)

    assert lane.admits(LONG, limits(latency=EXACT))


def test_a_line_that_stays_long_is_kept_short_from_then_on():
    lane = admission(overload_wait_s=0.3)
    lane.admits(LONG, limits(now=0.0))

    assert not lane.admits(LONG, limits(now=BURST_S))
    assert lane.holds_bulk(BURST_S)
    assert lane.admits(SHORT, limits(now=BURST_S))


def test_a_line_that_was_short_in_between_is_a_burst_again():
    lane = admission(overload_wait_s=0.3)
    lane.admits(LONG, limits(now=10.0))
    lane.admits(SHORT, limits(now=10.1))

    assert lane.admits(LONG, limits(now=10.0 + BURST_S))


def test_a_line_is_kept_short_until_nobody_was_turned_away_for_a_moment():
    lane = admission(overload_wait_s=0.3)
    lane.admits(TOO_LONG, limits(now=10.0))
    lane.admits(SHORT, limits(now=10.1))
    lane.admits(LONG, limits(now=10.2))
    lane.admits(SHORT, limits(now=10.3))

    assert not lane.admits(LONG, limits(now=10.2 + OVERLOAD_S - 0.01))
    lane.admits(SHORT, limits(now=11.3))
    assert lane.admits(LONG, limits(now=10.2 + 2 * OVERLOAD_S))


def test_bulk_is_held_back_for_a_moment_after_somebody_was_turned_away():
    lane = admission()
    lane.admits(8, limits(now=10.0))

    assert lane.holds_bulk(10.0 + OVERLOAD_S - 0.01)
    assert not lane.holds_bulk(10.0 + OVERLOAD_S)


def test_who_was_turned_away_is_known_for_as_long_as_they_might_have_waited():
    lane = admission(max_wait_s=0.5)
    for now in (10.0, 10.2, 10.4):
        lane.admits(TOO_LONG, limits(now=now))
    lane.admits(0, limits(now=10.4))

    assert lane.turned_away(10.49) == 3
    assert lane.turned_away(10.5) == 2
    assert lane.turned_away(10.9) == 0


def test_no_more_are_known_than_a_line_could_hold():
    lane = admission(max_queued_items=4)
    for _ in range(9):
        lane.admits(TOO_LONG, limits(now=10.0))

    assert lane.turned_away(10.0) == 4
