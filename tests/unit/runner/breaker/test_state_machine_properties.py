"""Invariants of one breaker under random events."""

from itertools import count
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from runner.breaker.state_machine import BUCKETS, Breaker, CallResult, Permit, Refusal, Verdict
from runner.types import BreakerCommand, BreakerState
from tests.unit.runner.breaker.breakers import FAST_S, SUCCESS, make_settings, permit_of

FORCED = (BreakerState.FORCED_OPEN, BreakerState.FORCED_CLOSED)
RATES = st.sampled_from([None, 0.3, 1.0])

OUTCOMES = st.one_of(
    st.sampled_from([CallResult(v) for v in Verdict if v is not Verdict.NO_INFORMATION]),
    st.integers(0, 1000).map(lambda wait_s: CallResult(Verdict.NO_INFORMATION, wait_s)),
)
DURATIONS = st.sampled_from([FAST_S, 0.999, 1.0, 3.0])


class BreakerMachine(RuleBasedStateMachine):
    """A breaker, a clock, and every permit that was given.

    All times are sums of powers of two, so they are exact and may be compared as they are.
    """

    permits: Bundle[Permit] = Bundle("permits")

    @initialize(
        probes=st.integers(1, 3),
        successes=st.integers(1, 3),
        failures=st.integers(1, 4),
        failure_rate=RATES,
        slow_rate=RATES,
        cooldown_s=st.sampled_from([1.0, 4.0, 100.0]),
        jitter=st.sampled_from([0.0, 0.25, 0.5, 0.875]),
    )
    def begin(self, probes, successes, failures, failure_rate, slow_rate, cooldown_s, jitter):
        self.settings = make_settings(
            probes=probes,
            successes_to_close=successes,
            consecutive_failures=failures,
            failure_rate=failure_rate,
            slow_call_rate=slow_rate,
            min_calls=4,
            cooldown_s=cooldown_s,
            cooldown_jitter_fraction=0.25,
        )
        self.jitter = jitter
        self.now = 0.0
        self.generation = 0
        self.lease_ends: dict[str, float] = {}  # of running probes, as the test expects them
        self.lease_ids = map(str, count())  # shared by all copies: no name is ever given twice
        self.breaker = self.fresh()

    def fresh(self) -> Breaker:
        return Breaker(self.settings, lambda: self.jitter, self.lease_ids)

    def copy(self, now: float) -> Breaker:
        other = self.fresh()
        other.adopt(self.breaker.snapshot(self.now), now)
        return other

    def state(self) -> BreakerState:
        return self.breaker.state(self.now)

    @rule(eighths=st.one_of(st.integers(1, 60), st.integers(60, 8000)))
    def time_passes(self, eighths: int) -> None:
        self.now += eighths / 8
        self.lease_ends = {k: end for k, end in self.lease_ends.items() if end > self.now}

    @rule(target=permits)
    def acquire(self) -> Any:
        wait_s = self.breaker.retry_in_s(self.now)
        answer = self.breaker.acquire(self.now)
        if isinstance(answer, Refusal):
            assert answer.retry_in_s == wait_s > 0
            return multiple()
        assert wait_s == 0.0
        assert answer.generation == self.breaker.snapshot(self.now)["generation"]
        assert (answer.lease is not None) == (self.state() is BreakerState.HALF_OPEN)
        if answer.lease is not None:
            assert answer.lease not in self.lease_ends
            self.lease_ends[answer.lease] = self.now + self.settings.probe_lease_s
        return answer

    @rule(permit=consumes(permits), outcome=OUTCOMES, duration_s=DURATIONS)
    def call_ends(self, permit: Permit, outcome: CallResult, duration_s: float) -> None:
        self.finish(permit, outcome, duration_s)

    @rule(permit=permits, outcome=OUTCOMES, duration_s=DURATIONS)
    def call_result_is_reported_twice(self, permit, outcome, duration_s):
        self.finish(permit, outcome, duration_s)

    @rule(permit=consumes(permits))
    def call_is_lost(self, permit: Permit) -> None:
        """Its result is never reported."""

    @rule(command=st.sampled_from(BreakerCommand))
    def operator_commands(self, command: BreakerCommand) -> None:
        self.breaker.obey(command, self.now)

    @rule(offset=st.integers(-1000, 1000))
    def moves_to_another_process(self, offset: int) -> None:
        before = self.breaker.snapshot(self.now)
        other = self.copy(float(offset))
        assert other.snapshot(float(offset)) == before
        self.breaker = self.copy(self.now)

    def finish(self, permit: Permit, outcome: CallResult, duration_s: float) -> None:
        before = self.breaker.snapshot(self.now)
        late = permit.generation != before["generation"]
        probing = before["state"] == BreakerState.HALF_OPEN
        lost = probing and permit.lease not in self.lease_ends
        self.lease_ends.pop(permit.lease or "", None)

        self.breaker.record(permit, outcome, duration_s, self.now)

        if late or lost or outcome.verdict is Verdict.IGNORED:
            after = self.breaker.snapshot(self.now)
            assert {**after, "leases": {}, "retry_in_s": 0} == {
                **before,
                "leases": {},
                "retry_in_s": 0,
            }

    @invariant()
    def places_are_conserved(self) -> None:
        leases = self.breaker.snapshot(self.now)["leases"]
        assert leases == {k: end - self.now for k, end in self.lease_ends.items()}
        assert len(leases) <= self.settings.probes

    @invariant()
    def window_is_bounded(self) -> None:
        window = self.breaker.snapshot(self.now)["window"]
        assert len(window) <= BUCKETS + 1
        assert all(0 <= row[0] < self.settings.window_s for row in window)

    @invariant()
    def generations_only_rise(self) -> None:
        generation = self.breaker.snapshot(self.now)["generation"]
        assert generation >= self.generation
        self.generation = generation

    @invariant()
    def no_wait_is_longer_than_the_longest_cooldown(self) -> None:
        longest_s = self.settings.cooldown_max_s * 1.25
        assert 0.0 <= self.breaker.retry_in_s(self.now) <= longest_s

    @invariant()
    def every_wait_ends_though_all_calls_are_lost(self) -> None:
        copy = self.copy(0.0)
        if self.state() is BreakerState.FORCED_OPEN:
            assert isinstance(copy.acquire(1e9), Refusal)
        else:
            assert isinstance(copy.acquire(copy.retry_in_s(0.0)), Permit)

    def teardown(self) -> None:
        """A model that works again is called again soon, after any events."""
        if not hasattr(self, "breaker") or self.state() in FORCED:
            return
        now = self.now
        for _ in range(self.settings.successes_to_close + 2 * self.settings.min_calls):
            now += self.breaker.retry_in_s(now)
            self.breaker.record(permit_of(self.breaker.acquire(now)), SUCCESS, FAST_S, now)

        assert self.breaker.state(now) is BreakerState.CLOSED


BreakerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestBreakerMachine = BreakerMachine.TestCase
