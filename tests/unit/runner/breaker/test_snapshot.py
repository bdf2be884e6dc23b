import math
from asyncio import CancelledError

import pytest

from runner.breaker.state_machine import CallResult, Verdict, call_result
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
from runner.types import BreakerCommand, BreakerState
from tests.unit.runner.breaker.breakers import (
    IGNORED,
    NO_INFORMATION,
    NOW,
    SUCCESS,
    Subject,
    call,
    make_breaker,
    open_by_failures,
)

CLOSED = BreakerState.CLOSED
OPEN = BreakerState.OPEN
HALF_OPEN = BreakerState.HALF_OPEN


class TestSnapshot:
    @pytest.mark.parametrize("state", list(BreakerState))
    def test_lives_on_under_another_clock(self, state):
        subject = Subject(state, probes=2)
        subject.ends(IGNORED)
        subject.breaker.acquire(NOW)
        copy = make_breaker(probes=2, slow_call_rate=0.9)

        copy.adopt(subject.breaker.snapshot(NOW), now=5.0)

        assert copy.snapshot(8.0) == subject.breaker.snapshot(NOW + 3.0)

    def test_says_how_long_ago_a_result_or_an_operator_last_changed_the_state(self):
        breaker = make_breaker(successes_to_close=2)
        ages = [breaker.snapshot(0.0)["changed_s_ago"]]

        open_by_failures(breaker, 0.0)
        call(breaker, NO_INFORMATION, 100.0)
        call(breaker, SUCCESS, 130.0)
        ages.append(breaker.snapshot(130.0)["changed_s_ago"])
        call(breaker, SUCCESS, 130.0)
        ages.append(breaker.snapshot(131.0)["changed_s_ago"])
        breaker.obey(BreakerCommand.RESET, 140.0)
        ages.append(breaker.snapshot(142.0)["changed_s_ago"])

        assert ages == [math.inf, 130.0, 1.0, 2.0]


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
    assert call_result(error) == CallResult(verdict, wait_s=0.0)


def test_an_open_circuit_inside_the_runtime_names_the_seconds_to_wait():
    error = RuntimeCircuitOpenError("", 20.0)

    assert call_result(error) == CallResult(Verdict.NO_INFORMATION, wait_s=20.0)
