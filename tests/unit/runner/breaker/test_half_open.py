import math

import pytest

from runner.breaker.state_machine import CallResult, Permit, Refusal, Verdict
from runner.types import BreakerCommand, BreakerState
from tests.unit.runner.breaker.breakers import (
    FAILURE,
    FAST_S,
    IGNORED,
    NO_INFORMATION,
    NOW,
    SLOW_S,
    SUCCESS,
    bring_to,
    call,
    make_breaker,
    open_by_failures,
    permit_of,
)

CLOSED = BreakerState.CLOSED
OPEN = BreakerState.OPEN
HALF_OPEN = BreakerState.HALF_OPEN


class TestHalfOpen:
    def test_permits_no_more_probes_than_allowed(self):
        breaker = make_breaker(probes=2)
        bring_to(breaker, HALF_OPEN)

        answers = [breaker.acquire(NOW), breaker.acquire(NOW + 1.0), breaker.acquire(NOW + 2.0)]

        assert answers == [Permit(2, "p1"), Permit(2, "p2"), Refusal(retry_in_s=3.0)]

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

    def test_one_failed_probe_opens_again_and_a_later_result_is_dropped(self):
        breaker = make_breaker(probes=2)
        bring_to(breaker, HALF_OPEN)
        first, second = permit_of(breaker.acquire(NOW)), permit_of(breaker.acquire(NOW))

        breaker.record(first, FAILURE, FAST_S, NOW)
        breaker.record(second, SUCCESS, FAST_S, NOW)

        assert breaker.state(NOW) is OPEN
        assert breaker.retry_in_s(NOW) == 200.0

    def test_a_slow_success_closes_without_a_slow_call_rate(self):
        breaker = make_breaker()
        bring_to(breaker, HALF_OPEN)

        call(breaker, SUCCESS, NOW, SLOW_S)

        assert breaker.state(NOW) is CLOSED

    def test_a_slow_probe_that_was_cancelled_does_not_count(self):
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

        call(breaker, CallResult(Verdict.NO_INFORMATION, wait_s), NOW)

        assert breaker.retry_in_s(NOW) == 350.0

    def test_a_permit_without_a_lease_is_not_a_probe(self):
        breaker = make_breaker()
        bring_to(breaker, HALF_OPEN)

        breaker.record(Permit(generation=2), SUCCESS, FAST_S, NOW)

        assert breaker.state(NOW) is HALF_OPEN

    def test_a_probe_keeps_its_place_when_its_generation_is_over(self):
        breaker = make_breaker(probes=2)
        bring_to(breaker, HALF_OPEN)
        late = permit_of(breaker.acquire(NOW))
        call(breaker, CallResult(Verdict.NO_INFORMATION, 0.0), NOW)

        answers = [breaker.acquire(NOW), breaker.acquire(NOW)]
        breaker.record(late, FAILURE, FAST_S, NOW)
        answers.append(breaker.acquire(NOW))

        assert answers == [Permit(4, "p3"), Refusal(5.0), Permit(4, "p4")]

    def test_running_leases_have_no_effect_after_closing(self):
        breaker = make_breaker(probes=2)
        bring_to(breaker, HALF_OPEN)
        first, second = permit_of(breaker.acquire(NOW)), permit_of(breaker.acquire(NOW))
        breaker.record(first, SUCCESS, FAST_S, NOW)
        breaker.acquire(NOW)

        breaker.record(second, FAILURE, FAST_S, NOW)

        assert breaker.retry_in_s(NOW) == 0.0
        assert breaker.acquire(NOW) == Permit(3)
        assert breaker.snapshot(NOW)["consecutive"] == 0

    def test_with_more_leases_than_probes_the_wait_lasts_until_a_probe_is_allowed(self):
        breaker = make_breaker(probes=2)
        bring_to(breaker, HALF_OPEN)
        entry = breaker.snapshot(NOW)
        entry["leases"] = {"a": 4.0, "b": 1.0, "c": 3.0, "d": 2.0}

        breaker.adopt(entry, NOW)

        assert breaker.acquire(NOW) == Refusal(3.0)
        assert breaker.acquire(NOW + 3.0) == Permit(2, "p1")


class TestForced:
    def test_a_reset_after_a_forced_state_clears_the_counts(self):
        breaker = make_breaker()
        open_by_failures(breaker, NOW, failures=2)
        breaker.obey(BreakerCommand.FORCE_CLOSED, NOW)
        breaker.obey(BreakerCommand.RESET, NOW)

        open_by_failures(breaker, NOW, failures=2)

        assert breaker.state(NOW) is CLOSED

    def test_commands_are_counted(self):
        breaker = make_breaker()

        breaker.obey(BreakerCommand.FORCE_OPEN, NOW)
        breaker.obey(BreakerCommand.FORCE_CLOSED, NOW)
        breaker.obey(BreakerCommand.RESET, NOW)

        assert breaker.snapshot(NOW)["commands"] == 3
