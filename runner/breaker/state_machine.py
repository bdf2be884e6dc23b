"""The circuit breaker of one model behind one runtime: a pure state machine.

All transitions happen here. There is no clock, no chance, no network and no waiting in this file:
``now`` is any monotonic number of seconds, jitter and lease names come in through the constructor.

What each event does in each state (``-`` changes nothing, ``>`` enters a state):

    event           closed       open       half open             forced open   forced closed
    --------------  -----------  ---------  --------------------  ------------  -------------
    acquire         permit       refused    a lease if one is     refused       permit
                                            free, else refused
    time passes     -            > half     leases expire         -             -
                                   open *a
    success         counted *b   -          freed; enough of      -             -
                                            them: > closed
    slow success    counted *b   -          freed; > open *c      -             -
    failure         counted *b   -          freed; > open *c      -             -
    ignored         -            -          freed                 -             -
    no information  -            -          freed; > open for     -             -
                                            the seconds named
    force_open      > forced open, from every state
    force_closed    > forced closed, from every state
    reset           > closed, from every state; the growth of the cooldown is forgotten

    *a  once the cooldown is over.
    *b  ``> open`` on enough failures in a row, or on a failure rate or slow-call rate over the
        window once it holds enough calls. A success ends a row of failures.
    *c  with a longer cooldown than the last. Slow counts only while there is a slow-call rate.

Every ``>`` starts a new generation and empties counts and window. A result is taken only from a
permit of the present generation, and while half open only from a lease that still runs: what comes
late changes nothing. A lease ends by its result or by its expiry and outlives a change of state, so
there are never more probes out than allowed, and a lost probe blocks the next one no longer than
its lease.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import TypedDict

from runner.breaker.call_window import CallWindow, WindowRow
from runner.config.sections import CircuitBreakerSection
from runner.errors import ModelError, RuntimeCircuitOpenError
from runner.types import BreakerCommand, BreakerState

_COMMANDED = {
    BreakerCommand.FORCE_OPEN: BreakerState.FORCED_OPEN,
    BreakerCommand.FORCE_CLOSED: BreakerState.FORCED_CLOSED,
    BreakerCommand.RESET: BreakerState.CLOSED,
}


class Verdict(StrEnum):
    """What a finished call says about the health of the model."""

    SUCCESS = auto()
    FAILURE = auto()
    IGNORED = auto()  # the caller's fault, or cancelled: the permit goes back, nothing counts
    NO_INFORMATION = auto()  # the call never reached the model


@dataclass(frozen=True, slots=True)
class CallResult:
    """A verdict, and with ``NO_INFORMATION`` the seconds to wait before the next probe.

    The breaker waits no longer than its longest cooldown, whatever the number says.
    """

    verdict: Verdict
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Permit:
    """Allows one call; ``lease`` names the probe that it is, None for an ordinary call."""

    generation: int
    lease: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """No call now; asking is pointless for ``retry_in_s`` seconds unless a probe ends earlier."""

    retry_in_s: float


class BreakerSnapshot(TypedDict):
    """All that a breaker knows; durations instead of times, because clocks differ."""

    state: str
    generation: int
    commands: int  # how many an operator gave so far
    changed_s_ago: float  # since a result or an operator last changed the state; never: infinite
    consecutive: int  # failures in a row
    successes: int
    cooldown_s: float  # the last cooldown without its jitter, 0.0 for none yet
    retry_in_s: float
    leases: dict[str, float]  # seconds until each expires
    window: list[WindowRow]


def call_result(error: BaseException | None) -> CallResult:
    """What a call that ended with ``error`` (None: with an answer) says about the model."""
    if error is None:
        return CallResult(Verdict.SUCCESS)
    if isinstance(error, RuntimeCircuitOpenError):
        return CallResult(Verdict.NO_INFORMATION, error.retry_after_s)
    if isinstance(error, ModelError) and error.counts:
        return CallResult(Verdict.FAILURE)
    return CallResult(Verdict.IGNORED)


class Breaker:
    """Allows calls, refuses them, and probes; see the table above.

    Args:
        settings: thresholds and durations.
        jitter: a number in [0, 1) whenever a cooldown begins.
        lease_ids: names for probes, never the same twice in any process that shares this breaker.
    """

    def __init__(
        self,
        settings: CircuitBreakerSection,
        jitter: Callable[[], float],
        lease_ids: Iterator[str],
    ) -> None:
        self._settings = settings
        self._jitter = jitter
        self._lease_ids = lease_ids
        self._state = BreakerState.CLOSED
        self._generation = 0
        self._commands = 0
        self._changed_at = -math.inf
        self._consecutive = 0
        self._successes = 0
        self._cooldown_s = 0.0
        self._open_until = 0.0
        self._leases: dict[str, float] = {}
        self._window = CallWindow(settings.window_s)

    def acquire(self, now: float) -> Permit | Refusal:
        """A permit for one call, or how long to stay away."""
        wait_s = self.retry_in_s(now)
        if wait_s > 0:
            return Refusal(wait_s)
        if self._state is not BreakerState.HALF_OPEN:
            return Permit(self._generation)
        lease = next(self._lease_ids)
        self._leases[lease] = now + self._settings.probe_lease_s
        return Permit(self._generation, lease)

    def record(self, permit: Permit, result: CallResult, duration_s: float, now: float) -> None:
        """Take in how the call of a permit ended; a late result is dropped."""
        self._advance(now)
        in_time = permit.lease is not None and self._leases.pop(permit.lease, None) is not None
        if permit.generation != self._generation:
            return
        slow = duration_s >= self._settings.slow_call_s
        if self._state is BreakerState.CLOSED:
            self._count(result.verdict, slow, now)
        elif self._state is BreakerState.HALF_OPEN and in_time:
            self._judge_probe(result, slow, now)

    def state(self, now: float) -> BreakerState:
        """The state at this moment."""
        self._advance(now)
        return self._state

    def retry_in_s(self, now: float) -> float:
        """How long ``acquire`` refuses if nothing happens meanwhile; 0.0 if it would not.

        Forced open ends by an operator alone, so there the ordinary cooldown stands in for it.
        """
        self._advance(now)
        if self._state is BreakerState.OPEN:
            return self._open_until - now
        if self._state is BreakerState.FORCED_OPEN:
            return self._settings.cooldown_s
        if self._state is BreakerState.HALF_OPEN and len(self._leases) >= self._settings.probes:
            return sorted(self._leases.values())[-self._settings.probes] - now
        return 0.0

    def obey(self, command: BreakerCommand, now: float) -> None:
        """Do what an operator says; what is forced stays so until the next command.

        Every command forgets the growth of the cooldown: from forced states only a reset leads on.
        """
        self._enter(_COMMANDED[command])
        self._commands += 1
        self._changed_at = now
        self._cooldown_s = 0.0

    def snapshot(self, now: float) -> BreakerSnapshot:
        """Everything another process needs to carry on from here."""
        retry_in_s = self.retry_in_s(now)
        return BreakerSnapshot(
            state=self._state.value,
            generation=self._generation,
            commands=self._commands,
            changed_s_ago=now - self._changed_at,
            consecutive=self._consecutive,
            successes=self._successes,
            cooldown_s=self._cooldown_s,
            retry_in_s=retry_in_s,
            leases={lease: until - now for lease, until in self._leases.items()},
            window=self._window.snapshot(now),
        )

    def adopt(self, snapshot: BreakerSnapshot, now: float) -> None:
        """Carry on from a snapshot; what was known here is forgotten."""
        self._state = BreakerState(snapshot["state"])
        self._generation = snapshot["generation"]
        self._commands = snapshot["commands"]
        self._changed_at = now - snapshot["changed_s_ago"]
        self._consecutive = snapshot["consecutive"]
        self._successes = snapshot["successes"]
        self._cooldown_s = snapshot["cooldown_s"]
        self._open_until = now + snapshot["retry_in_s"]
        self._leases = {lease: now + left_s for lease, left_s in snapshot["leases"].items()}
        self._window.adopt(snapshot["window"], now)

    def _advance(self, now: float) -> None:
        """What time alone does: a cooldown ends, leases expire."""
        if self._state is BreakerState.OPEN and now >= self._open_until:
            self._enter(BreakerState.HALF_OPEN)
        self._leases = {lease: until for lease, until in self._leases.items() if until > now}

    def _count(self, verdict: Verdict, slow: bool, now: float) -> None:
        if verdict not in (Verdict.SUCCESS, Verdict.FAILURE):
            return
        failed = verdict is Verdict.FAILURE
        self._consecutive = self._consecutive + 1 if failed else 0
        self._window.add(now, failed=failed, slow=slow)
        if self._consecutive >= self._settings.consecutive_failures or self._rates_are_bad(now):
            self._open_after_failure(now)

    def _rates_are_bad(self, now: float) -> bool:
        counts = self._window.counts(now)
        if counts.calls < self._settings.min_calls:
            return False
        failure_rate, slow_rate = self._settings.failure_rate, self._settings.slow_call_rate
        return (failure_rate is not None and counts.failed / counts.calls >= failure_rate) or (
            slow_rate is not None and counts.slow / counts.calls >= slow_rate
        )

    def _judge_probe(self, result: CallResult, slow: bool, now: float) -> None:
        too_slow = slow and self._settings.slow_call_rate is not None
        if result.verdict is Verdict.NO_INFORMATION:
            self._open(now + min(self._settings.cooldown_max_s, result.wait_s))
        elif result.verdict is Verdict.FAILURE or (result.verdict is Verdict.SUCCESS and too_slow):
            self._open_after_failure(now)
        elif result.verdict is Verdict.SUCCESS:
            self._successes += 1
            if self._successes >= self._settings.successes_to_close:
                self._enter(BreakerState.CLOSED)
                self._changed_at = now

    def _open_after_failure(self, now: float) -> None:
        self._cooldown_s = self._next_cooldown_s(now)
        swing = self._settings.cooldown_jitter_fraction * (2 * self._jitter() - 1)
        self._open(now + self._cooldown_s * (1 + swing))
        self._changed_at = now

    def _next_cooldown_s(self, now: float) -> float:
        """Longer after a failed probe, and after a recovery that did not outlive one window."""
        settings = self._settings
        relapse = now - self._changed_at < settings.window_s
        if self._state is BreakerState.HALF_OPEN or relapse:
            grown_s = max(settings.cooldown_s, self._cooldown_s * settings.cooldown_growth)
            return min(grown_s, settings.cooldown_max_s)
        return settings.cooldown_s

    def _open(self, until: float) -> None:
        self._enter(BreakerState.OPEN)
        self._open_until = until

    def _enter(self, state: BreakerState) -> None:
        self._state = state
        self._generation += 1
        self._consecutive = 0
        self._successes = 0
        self._window.clear()
