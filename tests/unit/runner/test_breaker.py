import json
import math
import pickle
from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

import pytest

from runner.breaker import Breaker, Outcome, Permit, Refusal, Verdict, outcome_of
from runner.errors import (
    BadOutputError,
    ModelError,
    ModelNotInstalledError,
    RuntimeCircuitOpenError,
    RuntimeFailedError,
    RuntimeOverloadedError,
    RuntimeRejectedError,
    RuntimeTimeoutError,
    RuntimeTooLargeError,
    RuntimeUnauthorizedError,
    RuntimeUnreachableError,
    TooLateError,
)
from runner.types import BreakerState
from tests.breakers import (
    FAILURE,
    FAST_S,
    IGNORED,
    NO_INFORMATION,
    SLOW_S,
    SUCCESS,
    call,
    make_breaker,
    open_by_failures,
    permit_of,
)

CLOSED = BreakerState.CLOSED
OPEN = BreakerState.OPEN
HALF_OPEN = BreakerState.HALF_OPEN
FORCED_OPEN = BreakerState.FORCED_OPEN
FORCED_CLOSED = BreakerState.FORCED_CLOSED

COOLDOWN_S = 100.0
NOW = 1000.0  # every breaker below has reached its state by then


class Subject:
    """A breaker in a known state at ``NOW``, with a permit of that state where there can be one."""

    def __init__(self, state: BreakerState, **changes: Any) -> None:
        self.breaker = make_breaker(slow_call_rate=0.9, **changes)
        self.permit = Permit(generation=-1)
        bring_to(self.breaker, state)
        if state is not OPEN and state is not FORCED_OPEN:
            self.permit = permit_of(self.breaker.acquire(NOW))

    def ends(self, outcome: Outcome, duration_s: float = FAST_S) -> None:
        self.breaker.record(self.permit, outcome, duration_s, NOW)


def bring_to(breaker: Breaker, state: BreakerState) -> None:
    if state is OPEN:
        open_by_failures(breaker, NOW)
    elif state is HALF_OPEN:
        open_by_failures(breaker, NOW - COOLDOWN_S)
    elif state is FORCED_OPEN:
        breaker.force_open(NOW, command=1)
    elif state is FORCED_CLOSED:
        breaker.force_close(NOW, command=1)


EVENTS: dict[str, Callable[[Subject], object]] = {
    "acquire": lambda s: s.breaker.acquire(NOW),
    "time passes": lambda s: s.breaker.state(NOW + COOLDOWN_S),
    "success": lambda s: s.ends(SUCCESS),
    "slow success": lambda s: s.ends(SUCCESS, SLOW_S),
    "failure": lambda s: s.ends(FAILURE),
    "ignored": lambda s: s.ends(IGNORED),
    "no information": lambda s: s.ends(NO_INFORMATION),
    "force_open": lambda s: s.breaker.force_open(NOW, command=2),
    "force_close": lambda s: s.breaker.force_close(NOW, command=2),
    "reset": lambda s: s.breaker.reset(NOW, command=2),
}

# The table of the module docstring: what state follows, in the order of EVENTS.
TABLE = {
    CLOSED: [CLOSED, CLOSED, CLOSED, CLOSED, CLOSED, CLOSED, CLOSED],
    OPEN: [OPEN, HALF_OPEN, OPEN, OPEN, OPEN, OPEN, OPEN],
    HALF_OPEN: [HALF_OPEN, HALF_OPEN, CLOSED, OPEN, OPEN, HALF_OPEN, OPEN],
    FORCED_OPEN: [FORCED_OPEN] * 7,
    FORCED_CLOSED: [FORCED_CLOSED] * 7,
}
COMMANDED = [FORCED_OPEN, FORCED_CLOSED, CLOSED]
CELLS = [
    pytest.param(before, event, after, id=f"{before.value}-{event}")
    for before, row in TABLE.items()
    for event, after in zip(EVENTS, row + COMMANDED, strict=True)
]


@pytest.mark.parametrize(("before", "event", "after"), CELLS)
def test_each_event_in_each_state_leads_where_the_table_says(before, event, after):
    subject = Subject(before)
    generation = subject.breaker.snapshot(NOW)["generation"]

    EVENTS[event](subject)

    later = NOW + COOLDOWN_S if event == "time passes" else NOW
    changed = before is not after or event in ("force_open", "force_close", "reset")
    assert subject.breaker.state(later) is after
    assert subject.breaker.snapshot(later)["generation"] == generation + changed


@pytest.mark.parametrize("before", [CLOSED, OPEN, FORCED_OPEN, FORCED_CLOSED])
@pytest.mark.parametrize("event", list(EVENTS)[2:7])
def test_results_count_only_while_closed_or_half_open(before, event):
    subject = Subject(before)
    untouched = subject.breaker.snapshot(NOW)

    EVENTS[event](subject)

    counted = before is CLOSED and event in ("success", "slow success", "failure")
    assert (subject.breaker.snapshot(NOW) != untouched) is counted


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        (CLOSED, Permit(generation=0, lease=None)),
        (OPEN, Refusal(retry_in_s=100.0)),
        (HALF_OPEN, Permit(generation=2, lease="p1")),
        (FORCED_OPEN, Refusal(retry_in_s=100.0)),
        (FORCED_CLOSED, Permit(generation=1)),
    ],
)
def test_acquire_answers_by_state(state, answer):
    breaker = make_breaker()
    bring_to(breaker, state)

    assert breaker.acquire(NOW) == answer


@pytest.mark.parametrize(
    ("state", "wait_s"),
    [(CLOSED, 0.0), (OPEN, 100.0), (HALF_OPEN, 0.0), (FORCED_OPEN, 100.0), (FORCED_CLOSED, 0.0)],
)
def test_retry_in_says_what_acquire_would(state, wait_s):
    breaker = make_breaker()
    bring_to(breaker, state)

    assert breaker.retry_in_s(NOW) == wait_s


class TestClosed:
    def test_opens_on_the_last_of_n_failures_in_a_row(self):
        breaker = make_breaker()

        open_by_failures(breaker, NOW, failures=2)
        before = breaker.state(NOW)
        open_by_failures(breaker, NOW, failures=1)

        assert (before, breaker.state(NOW)) == (CLOSED, OPEN)

    def test_a_success_ends_a_row_of_failures(self):
        breaker = make_breaker()

        for outcome in (FAILURE, FAILURE, SUCCESS, FAILURE, FAILURE):
            call(breaker, outcome, NOW)

        assert breaker.state(NOW) is CLOSED

    @pytest.mark.parametrize("outcome", [IGNORED, NO_INFORMATION])
    def test_what_says_nothing_neither_ends_nor_lengthens_a_row(self, outcome):
        breaker = make_breaker()

        for each in (FAILURE, FAILURE, outcome, outcome):
            call(breaker, each, NOW)
        before = breaker.state(NOW)
        call(breaker, FAILURE, NOW)

        assert (before, breaker.state(NOW)) == (CLOSED, OPEN)

    def test_opens_when_the_failure_rate_is_reached_at_the_minimum_volume(self):
        breaker = make_breaker(consecutive_failures=99, failure_rate=0.5, min_calls=4)

        states = []
        for outcome in (FAILURE, FAILURE, SUCCESS, SUCCESS):
            call(breaker, outcome, NOW)
            states.append(breaker.state(NOW))

        assert states == [CLOSED, CLOSED, CLOSED, OPEN]

    def test_stays_closed_just_under_the_failure_rate(self):
        breaker = make_breaker(consecutive_failures=99, failure_rate=0.5, min_calls=5)

        for outcome in (FAILURE, FAILURE, SUCCESS, SUCCESS, SUCCESS):
            call(breaker, outcome, NOW)

        assert breaker.state(NOW) is CLOSED

    def test_opens_when_the_slow_call_rate_is_reached_although_every_call_succeeds(self):
        breaker = make_breaker(slow_call_rate=0.75, min_calls=4)

        states = []
        for duration_s in (1.0, 1.0, 0.99, 1.0):  # slow means slow_call_s or longer
            call(breaker, SUCCESS, NOW, duration_s)
            states.append(breaker.state(NOW))

        assert states == [CLOSED, CLOSED, CLOSED, OPEN]

    def test_stays_closed_just_under_the_slow_call_rate(self):
        breaker = make_breaker(slow_call_rate=0.5, min_calls=5)

        for duration_s in (SLOW_S, SLOW_S, FAST_S, FAST_S, FAST_S):
            call(breaker, SUCCESS, NOW, duration_s)

        assert breaker.state(NOW) is CLOSED

    def test_calls_from_before_an_outage_do_not_count_after_it(self):
        breaker = make_breaker(failure_rate=0.5, min_calls=4, cooldown_s=1.0)
        open_by_failures(breaker, 0.0)
        call(breaker, SUCCESS, 1.0)

        call(breaker, FAILURE, 1.0)

        assert breaker.state(1.0) is CLOSED

    def test_the_two_rates_are_told_apart(self):
        failing = make_breaker(consecutive_failures=99, slow_call_rate=0.1, min_calls=1)
        slow = make_breaker(failure_rate=0.1, min_calls=1)

        call(failing, FAILURE, NOW, FAST_S)
        call(slow, SUCCESS, NOW, SLOW_S)

        assert (failing.state(NOW), slow.state(NOW)) == (CLOSED, CLOSED)

    def test_rates_that_are_switched_off_never_open(self):
        breaker = make_breaker(consecutive_failures=99, min_calls=1)

        for _ in range(50):
            call(breaker, FAILURE, NOW, SLOW_S)

        assert breaker.state(NOW) is CLOSED

    def test_failures_that_left_the_window_do_not_count_towards_a_rate(self):
        breaker = make_breaker(consecutive_failures=99, failure_rate=0.5, min_calls=4)

        for now, outcome in ((0.0, FAILURE), (1.0, FAILURE), (60.5, SUCCESS), (60.6, SUCCESS)):
            call(breaker, outcome, now)

        assert breaker.state(61.0) is CLOSED

    def test_a_result_from_before_the_last_opening_is_dropped(self):
        breaker = make_breaker()
        late = permit_of(breaker.acquire(0.0))
        open_by_failures(breaker, 0.0)
        call(breaker, SUCCESS, NOW)
        untouched = breaker.snapshot(NOW)

        breaker.record(late, FAILURE, FAST_S, NOW)

        assert breaker.state(NOW) is CLOSED
        assert breaker.snapshot(NOW) == untouched

    def test_a_result_from_a_later_generation_than_ours_is_dropped(self):
        breaker = make_breaker(consecutive_failures=1)

        breaker.record(Permit(generation=1), FAILURE, FAST_S, NOW)

        assert breaker.state(NOW) is CLOSED


class TestOpen:
    def test_lets_nothing_through_until_the_cooldown_is_over(self):
        breaker = make_breaker()
        open_by_failures(breaker, 0.0)

        just_before = breaker.acquire(99.5)
        just_then = breaker.acquire(100.0)

        assert just_before == Refusal(retry_in_s=0.5)
        assert just_then == Permit(generation=2, lease="p1")

    @pytest.mark.parametrize(("jitter", "cooldown_s"), [(0.0, 80.0), (0.5, 100.0), (0.75, 110.0)])
    def test_jitter_makes_the_cooldown_shorter_or_longer_by_its_fraction(self, jitter, cooldown_s):
        breaker = make_breaker(jitter=jitter, cooldown_jitter_fraction=0.2)

        open_by_failures(breaker, 0.0)

        assert breaker.retry_in_s(0.0) == pytest.approx(cooldown_s)

    def test_each_failed_probe_lengthens_the_cooldown_up_to_its_maximum(self):
        breaker = make_breaker()
        open_by_failures(breaker, 0.0)

        now, cooldowns = 0.0, []
        for _ in range(4):
            cooldowns.append(breaker.retry_in_s(now))
            now += cooldowns[-1]
            call(breaker, FAILURE, now)

        assert cooldowns == [100.0, 200.0, 350.0, 350.0]

    def test_jitter_does_not_grow_into_the_next_cooldown(self):
        breaker = make_breaker(jitter=0.0, cooldown_jitter_fraction=0.2)
        open_by_failures(breaker, 0.0)

        call(breaker, FAILURE, 80.0)

        assert breaker.retry_in_s(80.0) == pytest.approx(160.0)

    def test_a_recovery_shorter_than_the_window_does_not_reset_the_cooldown(self):
        breaker = make_breaker()
        open_by_failures(breaker, 0.0)
        call(breaker, SUCCESS, 100.0)

        open_by_failures(breaker, 159.9)

        assert breaker.retry_in_s(159.9) == pytest.approx(200.0)

    def test_a_recovery_that_outlived_the_window_resets_the_cooldown(self):
        breaker = make_breaker()
        open_by_failures(breaker, 0.0)
        call(breaker, SUCCESS, 100.0)

        open_by_failures(breaker, 160.0)

        assert breaker.retry_in_s(160.0) == 100.0

    def test_reset_forgets_the_growth_of_the_cooldown(self):
        breaker = make_breaker()
        open_by_failures(breaker, 0.0)
        call(breaker, FAILURE, 100.0)

        breaker.reset(110.0, command=1)
        open_by_failures(breaker, 111.0)

        assert breaker.retry_in_s(111.0) == 100.0

    def test_after_a_reset_no_cooldown_is_remembered(self):
        breaker = make_breaker()
        open_by_failures(breaker, 0.0)

        breaker.reset(1.0, command=1)

        assert breaker.snapshot(1.0)["cooldown_s"] == 0.0


class TestHalfOpen:
    def test_hands_out_no_more_probes_than_allowed(self):
        breaker = make_breaker(probes=2)
        bring_to(breaker, HALF_OPEN)

        answers = [breaker.acquire(NOW), breaker.acquire(NOW + 1.0), breaker.acquire(NOW + 2.0)]

        assert answers == [Permit(2, "p1"), Permit(2, "p2"), Refusal(retry_in_s=3.0)]

    def test_an_ended_probe_frees_its_place(self):
        breaker = make_breaker(successes_to_close=2)
        bring_to(breaker, HALF_OPEN)

        call(breaker, SUCCESS, NOW)
        second = breaker.acquire(NOW)

        assert second == Permit(generation=2, lease="p2")

    def test_a_lost_probe_frees_its_place_when_its_lease_ends(self):
        breaker = make_breaker()
        bring_to(breaker, HALF_OPEN)
        breaker.acquire(NOW)

        just_before = breaker.acquire(NOW + 4.5)
        just_then = breaker.acquire(NOW + 5.0)

        assert just_before == Refusal(retry_in_s=0.5)
        assert just_then == Permit(generation=2, lease="p2")

    @pytest.mark.parametrize("outcome", [SUCCESS, FAILURE, IGNORED, NO_INFORMATION])
    def test_the_result_of_an_expired_lease_changes_nothing(self, outcome):
        breaker = make_breaker()
        bring_to(breaker, HALF_OPEN)
        lost = permit_of(breaker.acquire(NOW))
        breaker.acquire(NOW + 5.0)
        untouched = breaker.snapshot(NOW + 5.0)

        breaker.record(lost, outcome, FAST_S, NOW + 5.0)

        assert breaker.snapshot(NOW + 5.0) == untouched

    def test_a_lease_expires_even_if_nobody_looked_meanwhile(self):
        breaker = make_breaker()
        bring_to(breaker, HALF_OPEN)
        late = permit_of(breaker.acquire(NOW))

        breaker.record(late, SUCCESS, FAST_S, NOW + 5.0)

        assert breaker.state(NOW + 5.0) is HALF_OPEN

    def test_a_result_told_twice_counts_once(self):
        breaker = make_breaker(successes_to_close=2)
        bring_to(breaker, HALF_OPEN)
        permit = permit_of(breaker.acquire(NOW))

        breaker.record(permit, SUCCESS, FAST_S, NOW)
        breaker.record(permit, SUCCESS, FAST_S, NOW)

        assert breaker.state(NOW) is HALF_OPEN

    def test_closes_after_enough_successes(self):
        breaker = make_breaker(successes_to_close=3)
        bring_to(breaker, HALF_OPEN)

        states = []
        for _ in range(3):
            call(breaker, SUCCESS, NOW)
            states.append(breaker.state(NOW))

        assert states == [HALF_OPEN, HALF_OPEN, CLOSED]

    def test_successes_of_an_earlier_half_open_do_not_count(self):
        breaker = make_breaker(successes_to_close=2)
        bring_to(breaker, HALF_OPEN)
        call(breaker, SUCCESS, NOW)
        call(breaker, FAILURE, NOW)

        call(breaker, SUCCESS, NOW + 200.0)

        assert breaker.state(NOW + 200.0) is HALF_OPEN

    def test_one_failed_probe_opens_again_and_the_other_probe_comes_too_late(self):
        breaker = make_breaker(probes=2)
        bring_to(breaker, HALF_OPEN)
        first, second = permit_of(breaker.acquire(NOW)), permit_of(breaker.acquire(NOW))

        breaker.record(first, FAILURE, FAST_S, NOW)
        breaker.record(second, SUCCESS, FAST_S, NOW)

        assert breaker.state(NOW) is OPEN
        assert breaker.retry_in_s(NOW) == 200.0

    def test_a_slow_success_closes_while_the_slow_rule_is_off(self):
        breaker = make_breaker()
        bring_to(breaker, HALF_OPEN)

        call(breaker, SUCCESS, NOW, SLOW_S)

        assert breaker.state(NOW) is CLOSED

    def test_a_slow_probe_that_was_cancelled_says_nothing(self):
        breaker = make_breaker(slow_call_rate=0.9)
        bring_to(breaker, HALF_OPEN)

        call(breaker, IGNORED, NOW, SLOW_S)

        assert breaker.acquire(NOW) == Permit(generation=2, lease="p2")

    def test_no_information_waits_the_seconds_named_without_growth(self):
        breaker = make_breaker()
        bring_to(breaker, HALF_OPEN)

        call(breaker, NO_INFORMATION, NOW)
        wait_s = breaker.retry_in_s(NOW)
        call(breaker, FAILURE, NOW + 16.0)

        assert wait_s == 16.0
        assert breaker.retry_in_s(NOW + 16.0) == 200.0

    @pytest.mark.parametrize("wait_s", [1e9, math.inf, math.nan])
    def test_no_information_never_waits_longer_than_the_longest_cooldown(self, wait_s):
        breaker = make_breaker()
        bring_to(breaker, HALF_OPEN)

        call(breaker, Outcome(Verdict.NO_INFORMATION, wait_s), NOW)

        assert breaker.retry_in_s(NOW) == 350.0

    def test_an_ordinary_permit_of_this_generation_is_no_probe(self):
        breaker = make_breaker()
        bring_to(breaker, HALF_OPEN)

        breaker.record(Permit(generation=2), SUCCESS, FAST_S, NOW)

        assert breaker.state(NOW) is HALF_OPEN

    def test_a_probe_keeps_its_place_when_its_generation_is_over(self):
        breaker = make_breaker(probes=2)
        bring_to(breaker, HALF_OPEN)
        late = permit_of(breaker.acquire(NOW))
        call(breaker, Outcome(Verdict.NO_INFORMATION, 0.0), NOW)

        answers = [breaker.acquire(NOW), breaker.acquire(NOW)]
        breaker.record(late, FAILURE, FAST_S, NOW)
        answers.append(breaker.acquire(NOW))

        assert answers == [Permit(4, "p3"), Refusal(5.0), Permit(4, "p4")]

    def test_leases_that_still_run_hold_nothing_back_once_closed(self):
        breaker = make_breaker(probes=2)
        bring_to(breaker, HALF_OPEN)
        first, second = permit_of(breaker.acquire(NOW)), permit_of(breaker.acquire(NOW))
        breaker.record(first, SUCCESS, FAST_S, NOW)
        breaker.acquire(NOW)

        breaker.record(second, FAILURE, FAST_S, NOW)

        assert breaker.retry_in_s(NOW) == 0.0
        assert breaker.acquire(NOW) == Permit(3)
        assert breaker.snapshot(NOW)["consecutive"] == 0

    def test_with_more_leases_than_places_the_wait_lasts_until_a_place_is_free(self):
        breaker = make_breaker(probes=2)
        bring_to(breaker, HALF_OPEN)
        entry = breaker.snapshot(NOW)
        entry["leases"] = {"a": 4.0, "b": 1.0, "c": 3.0, "d": 2.0}

        breaker.adopt(entry, NOW)

        assert breaker.acquire(NOW) == Refusal(3.0)
        assert breaker.acquire(NOW + 3.0) == Permit(2, "p1")


class TestForced:
    def test_forced_open_outlasts_every_cooldown(self):
        breaker = make_breaker()

        breaker.force_open(NOW, command=1)

        assert breaker.acquire(NOW + 1e6) == Refusal(retry_in_s=100.0)

    def test_forced_closed_lets_everything_through_whatever_fails(self):
        breaker = make_breaker(probes=1)
        breaker.force_close(NOW, command=1)

        open_by_failures(breaker, NOW, failures=20)

        assert breaker.acquire(NOW) == Permit(generation=1)

    def test_a_forced_breaker_that_is_reset_starts_from_nothing(self):
        breaker = make_breaker()
        open_by_failures(breaker, NOW, failures=2)
        breaker.force_close(NOW, command=1)
        breaker.reset(NOW, command=2)

        open_by_failures(breaker, NOW, failures=2)

        assert breaker.state(NOW) is CLOSED

    def test_the_number_of_the_last_command_is_kept(self):
        breaker = make_breaker()

        breaker.force_open(NOW, command=7)
        breaker.force_close(NOW, command=8)
        breaker.reset(NOW, command=9)

        assert breaker.snapshot(NOW)["command"] == 9


class TestSnapshot:
    def test_of_a_new_breaker_holds_nothing(self):
        assert make_breaker().snapshot(NOW) == {
            "state": "closed",
            "generation": 0,
            "command": 0,
            "evidence_age_s": None,
            "consecutive": 0,
            "successes": 0,
            "cooldown_s": 0.0,
            "retry_in_s": 0.0,
            "leases": {},
            "window": [],
        }

    def test_a_copy_closes_on_the_successes_that_were_still_missing(self):
        first, second = make_breaker(successes_to_close=2), make_breaker(successes_to_close=2)
        bring_to(first, HALF_OPEN)
        call(first, SUCCESS, NOW)

        second.adopt(first.snapshot(NOW), now=0.0)
        call(second, SUCCESS, 0.0)

        assert second.state(0.0) is CLOSED

    @pytest.mark.parametrize("state", list(TABLE))
    def test_goes_through_json_and_lives_on_under_another_clock(self, state):
        subject = Subject(state, probes=2)
        subject.ends(IGNORED)
        subject.breaker.acquire(NOW)
        copy = make_breaker(probes=2, slow_call_rate=0.9)

        copy.adopt(json.loads(json.dumps(subject.breaker.snapshot(NOW))), now=5.0)

        there, here = subject.breaker.snapshot(NOW + 3.0), copy.snapshot(8.0)
        assert json.loads(json.dumps(here)) == json.loads(json.dumps(there))

    def test_a_copy_opens_on_the_failures_that_were_still_missing(self):
        first, second = make_breaker(), make_breaker()
        open_by_failures(first, NOW, failures=2)

        second.adopt(first.snapshot(NOW), now=0.0)
        call(second, FAILURE, 0.0)

        assert second.state(0.0) is OPEN

    def test_a_copy_takes_the_result_of_a_lease_it_heard_of(self):
        first, second = make_breaker(), make_breaker(owner="q")
        bring_to(first, HALF_OPEN)
        permit = permit_of(first.acquire(NOW))

        second.adopt(first.snapshot(NOW), now=0.0)
        second.record(permit, SUCCESS, FAST_S, 1.0)

        assert second.state(1.0) is CLOSED

    def test_calls_in_the_window_are_carried_along_with_their_age(self):
        first = make_breaker(consecutive_failures=99, failure_rate=1.0, min_calls=4)
        second = make_breaker(consecutive_failures=99, failure_rate=1.0, min_calls=4)
        open_by_failures(first, NOW, failures=3)

        second.adopt(first.snapshot(NOW + 1.0), now=0.0)
        call(second, FAILURE, 58.9)

        assert second.state(58.9) is OPEN

    def test_evidence_is_as_old_as_the_last_change_by_a_result_or_an_operator(self):
        breaker = make_breaker(successes_to_close=2)
        ages = [breaker.snapshot(0.0)["evidence_age_s"]]

        open_by_failures(breaker, 0.0)
        call(breaker, NO_INFORMATION, 100.0)
        call(breaker, SUCCESS, 130.0)
        ages.append(breaker.snapshot(130.0)["evidence_age_s"])
        call(breaker, SUCCESS, 130.0)
        ages.append(breaker.snapshot(131.0)["evidence_age_s"])
        breaker.reset(140.0, command=1)
        ages.append(breaker.snapshot(142.0)["evidence_age_s"])

        assert ages == [None, 130.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (None, Verdict.SUCCESS),
        (ModelError("odd"), Verdict.FAILURE),
        (RuntimeTimeoutError(), Verdict.FAILURE),
        (RuntimeUnreachableError(), Verdict.FAILURE),
        (RuntimeOverloadedError(), Verdict.FAILURE),
        (RuntimeUnauthorizedError(), Verdict.FAILURE),
        (ModelNotInstalledError(), Verdict.FAILURE),
        (RuntimeFailedError(), Verdict.FAILURE),
        (BadOutputError(), Verdict.FAILURE),
        (RuntimeRejectedError(), Verdict.IGNORED),
        (RuntimeTooLargeError(), Verdict.IGNORED),
        (TooLateError(), Verdict.IGNORED),
        (CancelledError(), Verdict.IGNORED),
        (ValueError("a bug of ours"), Verdict.IGNORED),
    ],
)
def test_only_what_the_model_did_counts(error, verdict):
    assert outcome_of(error) == Outcome(verdict, wait_s=0.0)


def test_an_open_circuit_inside_the_runtime_names_the_seconds_to_wait():
    error = RuntimeCircuitOpenError("", 20.0)

    assert outcome_of(error) == Outcome(Verdict.NO_INFORMATION, wait_s=20.0)


@pytest.mark.parametrize("value", [Permit(3, "p1"), Refusal(2.5), Outcome(Verdict.FAILURE)])
def test_values_cross_processes_unchanged(value):
    assert pickle.loads(pickle.dumps(value)) == value
