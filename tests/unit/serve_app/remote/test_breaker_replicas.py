"""Properties of several replicas and their actor, with and without faults between them.

Every process has a clock of its own, and all exchange as in a running service, in virtual time.
All times are sums of powers of two, so they are exact.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runner.breaker.state_machine import CallResult, Permit, Verdict
from runner.errors import BreakerOpenError
from runner.types import BreakerCommand, BreakerState
from serve_app.remote.breaker_client import BreakerClient
from tests.support.virtual_time import VirtualTimeLoop
from tests.unit.runner.breaker.breakers import (
    FAILURE,
    FAST_S,
    SUCCESS,
    FakeActor,
    make_breakers,
    make_settings,
)

T = TypeVar("T")
FORCED = (BreakerState.FORCED_OPEN, BreakerState.FORCED_CLOSED)
REPLICAS = st.integers(0, 4)  # taken modulo the number there is
OTHERS = [CallResult(Verdict.IGNORED), CallResult(Verdict.NO_INFORMATION, 16.0)]
RESULTS = st.sampled_from([SUCCESS, SUCCESS, FAILURE, FAILURE, FAILURE, *OTHERS])
DELAYS_S = st.sampled_from([0.0, 1 / 64, 1 / 8, 1.0])  # the last is over the time limit
LIMIT_S = 3 / 16


@dataclass
class Replica:
    client: BreakerClient
    calls: list[Permit] = field(default_factory=list)


class Reliable(RuleBasedStateMachine):
    """Replicas call one model; the actor answers at once."""

    @initialize(
        replicas=st.integers(2, 4),
        probes=st.integers(1, 2),
        successes=st.integers(1, 2),
        cooldown_s=st.sampled_from([2.0, 100.0]),
        failure_rate=st.sampled_from([None, 0.5]),
    )
    def begin(self, replicas, probes, successes, cooldown_s, failure_rate):
        self.changes = {
            "probes": probes,
            "successes_to_close": successes,
            "cooldown_s": cooldown_s,
            "failure_rate": failure_rate,
            "min_calls": 8,
            "shared_timeout_s": LIMIT_S,
        }
        self.settings = make_settings(**self.changes)
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.loop = cast(VirtualTimeLoop, self.runner.get_loop())
        self.probes_out: dict[str, float] = {}  # lease to its end
        self.results = 0
        self.actor = FakeActor(self.clock(-512.0), **self.changes)
        self.replicas: list[Replica] = []
        for _ in range(replicas):
            self.a_replica_joins()

    def clock(self, offset_s: float) -> Callable[[], float]:
        return lambda: self.loop.time() + offset_s

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    def sleep(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))
        now = self.loop.time()
        self.probes_out = {lease: end for lease, end in self.probes_out.items() if end > now}

    def rest(self, seconds: float) -> None:
        """Time passes, between two exchanges of every replica, without any event."""
        self.sleep(1 / 64)
        self.loop.jump(seconds)
        self.sleep(3 / 64)

    def pick(self, number: int) -> Replica:
        return self.replicas[number % len(self.replicas)]

    @precondition(lambda self: len(self.replicas) < 5)
    @rule()
    def a_replica_joins(self) -> None:
        number = len(self.replicas) + 1
        copy = make_breakers(owner=f"r{number}-", **self.changes)
        clock = self.clock(1024.0 * number)
        client = BreakerClient(copy, self.actor.call, self.settings, clock)
        self.replicas.append(Replica(client))
        self.loop.call_soon(client.start)
        self.sleep(1 / 32)

    @rule(parts=st.integers(1, 40))
    def time_passes(self, parts: int) -> None:
        self.sleep(parts / 32)

    @rule(quarters=st.integers(1, 800))
    def all_processes_rest_for_a_while(self, quarters: int) -> None:
        self.rest(quarters / 4)

    @rule(number=REPLICAS)
    def call_begins(self, number: int) -> None:
        replica = self.pick(number)
        began = self.loop.time()
        with contextlib.suppress(BreakerOpenError):
            permit = self.run(replica.client.acquire("m"))
            replica.calls.append(permit)
            if permit.lease is not None:
                self.probes_out[permit.lease] = self.loop.time() + self.settings.probe_lease_s
        assert self.loop.time() - began <= 2 * LIMIT_S  # it may have to send its breakers first

    @rule(number=REPLICAS, which=st.integers(0, 9), result=RESULTS)
    def call_ends(self, number: int, which: int, result: CallResult) -> None:
        replica = self.pick(number)
        if replica.calls:
            permit = replica.calls.pop(which % len(replica.calls))
            self.results += result in (SUCCESS, FAILURE)
            replica.client.record("m", permit, result, FAST_S)
            self.probes_out.pop(permit.lease or "", None)

    @rule(number=REPLICAS)
    def model_breaks_down(self, number: int) -> None:
        """Four calls in a row that fail."""
        for _ in range(4):
            self.call_begins(number)
            self.call_ends(number, -1, FAILURE)

    @rule(number=REPLICAS)
    def calls_are_lost(self, number: int) -> None:
        self.pick(number).calls.clear()

    @rule(command=st.sampled_from(BreakerCommand))
    def operator_commands(self, command: BreakerCommand) -> None:
        self.actor.shared.command(["m"], command)

    @rule()
    def a_second_without_faults_makes_all_agree(self) -> None:
        self.sleep(1.0)

        for truth in self.actor.breakers().values():
            for replica in self.replicas:
                assert replica.client.state("m") == truth["state"]
                assert replica.client.retry_in_s("m") == truth["retry_in_s"]

    @invariant()
    def no_wait_is_longer_than_promised(self) -> None:
        for replica in self.replicas:
            assert 0.0 <= replica.client.retry_in_s("m") <= self.settings.cooldown_max_s

    @invariant()
    def no_result_is_counted_twice(self) -> None:
        for known in (self.actor.breakers(), *(r.client.known() for r in self.replicas)):
            for breaker in known.values():
                assert sum(calls for _, calls, _, _ in breaker["window"]) <= self.results

    def teardown(self) -> None:
        """After any events, a model that works again is soon used by every replica."""
        if not hasattr(self, "replicas"):
            return
        for replica in self.replicas:
            replica.calls.clear()
        for _ in range(3):
            self.sleep(1.0)
            self.recover()
        self.sleep(1.0)
        states = {replica.client.state("m") for replica in self.replicas}
        self.runner.close()
        assert len(states) == 1
        assert states <= {BreakerState.CLOSED, *FORCED}

    def recover(self) -> None:
        """One call that succeeds wherever one is allowed."""
        for number, replica in enumerate(self.replicas):
            if replica.client.state("m") is not BreakerState.FORCED_OPEN:
                self.rest(replica.client.retry_in_s("m"))
                self.call_begins(number)
                self.call_ends(number, -1, SUCCESS)
                self.sleep(0.5)


class ReliableMachine(Reliable):
    @invariant()
    def never_are_more_probes_out_than_allowed_over_all_replicas(self) -> None:
        assert len(self.probes_out) <= self.settings.probes


class FaultyMachine(Reliable):
    """The actor is slow, cannot be reached, or loses its state."""

    @rule(delay_s=DELAYS_S)
    def actor_is_slow(self, delay_s: float) -> None:
        self.actor.delay_s = delay_s

    @rule(gone=st.booleans())
    def actor_can_be_reached_or_not(self, gone: bool) -> None:
        self.actor.gone = gone

    @rule()
    def actor_restarts_without_state(self) -> None:
        self.actor.restart()

    @rule()
    def a_second_without_faults_makes_all_agree(self) -> None:
        self.actor.gone, self.actor.delay_s = False, 0.0
        self.sleep(1.0)  # calls that wait at a slow actor are completed first
        super().a_second_without_faults_makes_all_agree()

    def teardown(self) -> None:
        if hasattr(self, "replicas"):
            self.a_second_without_faults_makes_all_agree()
        super().teardown()


ReliableMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
FaultyMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestWithoutFaults = ReliableMachine.TestCase
TestWithFaults = FaultyMachine.TestCase
