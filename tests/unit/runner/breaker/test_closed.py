import pytest

from runner.breaker.state_machine import Permit, Refusal
from runner.types import BreakerCommand, BreakerState
from tests.unit.runner.breaker.breakers import (
    FAILURE,
    FAST_S,
    IGNORED,
    NO_INFORMATION,
    NOW,
    SLOW_S,
    SUCCESS,
    call,
    make_breaker,
    open_by_failures,
    permit_of,
)

CLOSED = BreakerState.CLOSED
OPEN = BreakerState.OPEN


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
    def test_uncounted_results_neither_end_nor_lengthen_a_row(self, outcome):
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

    def test_opens_when_the_slow_call_rate_is_reached_although_every_call_succeeds(self):
        breaker = make_breaker(slow_call_rate=0.75, min_calls=4)

        states = []
        for duration_s in (1.0, 1.0, 0.99, 1.0):  # slow means slow_call_s or longer
            call(breaker, SUCCESS, NOW, duration_s)
            states.append(breaker.state(NOW))

        assert states == [CLOSED, CLOSED, CLOSED, OPEN]

    def test_calls_from_before_an_outage_do_not_count_after_it(self):
        breaker = make_breaker(failure_rate=0.5, min_calls=4, cooldown_s=1.0)
        open_by_failures(breaker, 0.0)
        call(breaker, SUCCESS, 1.0)

        call(breaker, FAILURE, 1.0)

        assert breaker.state(1.0) is CLOSED

    def test_failures_and_slow_calls_have_separate_rates(self):
        failing = make_breaker(consecutive_failures=99, slow_call_rate=0.1, min_calls=1)
        slow = make_breaker(failure_rate=0.1, min_calls=1)

        call(failing, FAILURE, NOW, FAST_S)
        call(slow, SUCCESS, NOW, SLOW_S)

        assert (failing.state(NOW), slow.state(NOW)) == (CLOSED, CLOSED)

    def test_a_result_from_before_the_last_opening_is_dropped(self):
        breaker = make_breaker()
        late = permit_of(breaker.acquire(0.0))
        open_by_failures(breaker, 0.0)
        call(breaker, SUCCESS, NOW)
        untouched = breaker.snapshot(NOW)

        breaker.record(late, FAILURE, FAST_S, NOW)

        assert breaker.state(NOW) is CLOSED
        assert breaker.snapshot(NOW) == untouched


class TestOpen:
    def test_refuses_until_the_cooldown_is_over(self):
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

    def test_a_recovery_as_long_as_the_window_resets_the_cooldown(self):
        breaker = make_breaker()
        open_by_failures(breaker, 0.0)
        call(breaker, SUCCESS, 100.0)

        open_by_failures(breaker, 160.0)

        assert breaker.retry_in_s(160.0) == 100.0

    def test_reset_forgets_the_growth_of_the_cooldown(self):
        breaker = make_breaker()
        open_by_failures(breaker, 0.0)
        call(breaker, FAILURE, 100.0)

        breaker.obey(BreakerCommand.RESET, 110.0)
        open_by_failures(breaker, 111.0)

        assert breaker.retry_in_s(111.0) == 100.0
