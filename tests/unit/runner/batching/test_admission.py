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

SLOW_CALLS = CallLatency(10, 0.5, 0.0, 0.0)  # seconds: 0.5 for any number of items
EXACT = CallLatency(4, 0.25, 0.0, 0.0)  # sums without rounding errors
SLOW_ITEMS = CallLatency(10, 0.5, 0.05, 0.05)  # 0.05 for each


def make_admission(**changes: Any) -> AdmissionControl:
    values = {"max_call_s": 0.6, "prompt_call_s": 0.2, "max_wait_s": 0.5, "slots_per_model": 1}
    waits = {"overload_wait_s": changes.get("max_wait_s", 0.5)}
    return AdmissionControl(make_config(batching=values | waits | changes).batching)


def limits(
    *, max_items: int = 4, now: float = 0.0, latency: CallLatency = SLOW_ITEMS
) -> BatchLimits:
    return BatchLimits(max_items, max_items, 10**9, 1e9, latency, now)


def test_calls_are_short_for_a_second_after_an_interactive_arrival():
    admission = make_admission()
    before = admission.longest_call_s(SLOW_ITEMS, 0.0)
    admission.on_interactive_arrival(5.0)

    assert before == 0.6
    assert admission.longest_call_s(SLOW_ITEMS, 5.0 + COMPANY_S - 0.01) == 0.2
    assert admission.longest_call_s(SLOW_ITEMS, 5.0 + COMPANY_S) == 0.6


@pytest.mark.parametrize(
    ("alone_s", "interactive_at", "longest_s"),
    [
        (0.0, 0.0, 0.2),
        (0.16, 0.0, 0.24),
        (0.4, 0.0, 0.6),
        (0.48, 0.0, 0.6),
        (0.8, 0.0, 1.0),
        (0.48, -2 * COMPANY_S, 0.6),
        (0.8, -2 * COMPANY_S, 1.0),
    ],
)
def test_the_longest_call_grows_with_the_time_of_one_item(
    alone_s: float, interactive_at: float, longest_s: float
):
    admission = make_admission()
    admission.on_interactive_arrival(interactive_at)

    assert admission.longest_call_s(CallLatency(1, alone_s, 0.0, 0.0), 0.0) == longest_s


def test_bulk_items_in_a_call_grow_step_by_step_while_interactive_items_are_expected():
    admission = make_admission()
    before = admission.most_bulk(UNKNOWN, 0.0)
    admission.on_interactive_arrival(5.0)

    assert before == inf
    assert admission.most_bulk(UNKNOWN, 5.0) == 4
    assert admission.most_bulk(SLOW_ITEMS, 5.0) == 40
    assert admission.most_bulk(SLOW_ITEMS, 5.0 + COMPANY_S) == inf


def test_an_item_of_the_next_call_is_admitted_however_long_the_call_takes():
    admission = make_admission(max_wait_s=0.01)
    admission.began(100.0, 0.0)

    assert admission.admits(3, limits())
    assert not admission.holds_bulk(0.0)


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
def test_an_item_that_would_wait_too_long_is_refused(ahead: int, running_s: float, admitted: bool):
    admission = make_admission()
    admission.began(running_s, 0.0)

    assert admission.admits(ahead, limits()) is admitted
    assert admission.holds_bulk(0.0) is not admitted


def test_a_call_that_should_have_ended_counts_as_if_it_ended_now():
    admission = make_admission()
    admission.began(0.3, 0.0)

    assert admission.admits(4, limits(now=50.0))


def test_with_more_slots_more_are_in_the_next_calls():
    admission = make_admission(slots_per_model=2, max_wait_s=0.01)

    assert admission.admits(7, limits())
    assert not admission.admits(8, limits())


def test_no_item_is_refused_while_the_call_time_is_unknown():
    assert make_admission(max_wait_s=0.01).admits(1000, limits(latency=UNKNOWN))


SHORT, LONG, TOO_LONG = 3, 4, 8  # items ahead: waits of 0 (the next call), 0.4 and 0.6


def test_a_burst_may_wait_long():
    admission = make_admission(overload_wait_s=0.3)

    answers = [admission.admits(LONG, limits(now=step * BURST_S / 10)) for step in range(10)]

    assert all(answers)
    assert not admission.holds_bulk(BURST_S)


def test_a_wait_equal_to_the_limit_is_not_long():
    admission = make_admission(overload_wait_s=0.5, max_wait_s=1.0)

    moments = [step * BURST_S for step in range(3)]
    answers = [admission.admits(LONG, limits(now=now, latency=EXACT)) for now in moments]

    assert all(answers)


def test_a_burst_may_wait_exactly_the_longest_time():
    admission = make_admission(overload_wait_s=0.25, max_wait_s=0.5)

    assert admission.admits(LONG, limits(latency=EXACT))


def test_a_queue_that_stays_long_is_kept_short():
    admission = make_admission(overload_wait_s=0.3)
    admission.admits(LONG, limits(now=0.0))

    assert not admission.admits(LONG, limits(now=BURST_S))
    assert admission.holds_bulk(BURST_S)
    assert admission.admits(SHORT, limits(now=BURST_S))


def test_a_queue_that_was_short_in_between_is_a_burst_again():
    admission = make_admission(overload_wait_s=0.3)
    admission.admits(LONG, limits(now=10.0))
    admission.admits(SHORT, limits(now=10.1))

    assert admission.admits(LONG, limits(now=10.0 + BURST_S))


def test_a_queue_is_kept_short_until_no_item_was_refused_for_a_second():
    admission = make_admission(overload_wait_s=0.3)
    admission.admits(TOO_LONG, limits(now=10.0))
    admission.admits(SHORT, limits(now=10.1))
    admission.admits(LONG, limits(now=10.2))
    admission.admits(SHORT, limits(now=10.3))

    assert not admission.admits(LONG, limits(now=10.2 + OVERLOAD_S - 0.01))
    admission.admits(SHORT, limits(now=11.3))
    assert admission.admits(LONG, limits(now=10.2 + 2 * OVERLOAD_S))


def test_bulk_is_held_for_a_second_after_a_refusal():
    admission = make_admission()
    admission.admits(8, limits(now=10.0))

    assert admission.holds_bulk(10.0 + OVERLOAD_S - 0.01)
    assert not admission.holds_bulk(10.0 + OVERLOAD_S)


def test_refusals_are_counted_for_the_longest_wait():
    admission = make_admission(max_wait_s=0.5)
    for now in (10.0, 10.2, 10.4):
        admission.admits(TOO_LONG, limits(now=now))
    admission.admits(0, limits(now=10.4))

    assert admission.turned_away(10.49) == 3
    assert admission.turned_away(10.5) == 2
    assert admission.turned_away(10.9) == 0


def test_refusals_are_counted_up_to_the_size_of_the_queue():
    admission = make_admission(max_queued_items=4)
    for _ in range(9):
        admission.admits(TOO_LONG, limits(now=10.0))

    assert admission.turned_away(10.0) == 4
