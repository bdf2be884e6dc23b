"""The circuit breaker of one model behind one runtime, and those of a process by name.

A breaker is a pure state machine: all transitions happen here. There is no clock, no chance, no
network and no waiting in this file: ``now`` is any monotonic number of seconds, jitter and lease
names are constructor arguments.

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
        window once it has enough calls. A success ends a row of failures.
    *c  with a longer cooldown than the last. Slow counts only if a slow-call rate is set.

Every ``>`` starts a new generation and clears counts and window. A result counts only with a permit
of the current generation, and while half open only with a lease that has not ended: a late result
changes nothing. A lease ends by its result or its expiry and outlasts a change of state, so there
are never more running probes than allowed, and a lost probe blocks the next one only for its lease.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from itertools import count
from typing import NamedTuple, TypedDict

from runner.config.sections import CircuitBreakerSection
from runner.errors import ModelError, RuntimeCircuitOpenError
from runner.types import BreakerCommand, BreakerState

BUCKETS = 10  # of a window: the counts are at most a tenth of it short, at constant memory

_COMMANDED = {
    BreakerCommand.FORCE_OPEN: BreakerState.FORCED_OPEN,
    BreakerCommand.FORCE_CLOSED: BreakerState.FORCED_CLOSED,
    BreakerCommand.RESET: BreakerState.CLOSED,
}


class Verdict(StrEnum):
    """What a finished call shows about the health of the model."""

    SUCCESS = auto()
    FAILURE = auto()
    IGNORED = auto()  # the caller's fault, or cancelled: the permit is returned, nothing counts
    NO_INFORMATION = auto()  # the call never reached the model


@dataclass(frozen=True, slots=True)
class CallResult:
    """A verdict, and with ``NO_INFORMATION`` the seconds to wait before the next probe."""

    verdict: Verdict
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Permit:
    """Allows one call; ``lease`` names a probe, None for an ordinary call."""

    generation: int
    lease: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """No call now, nor for ``retry_in_s`` seconds unless a probe ends earlier."""

    retry_in_s: float


class CallCounts(NamedTuple):
    """How many calls there were, and how many of them failed or were slow (or both)."""

    calls: int = 0
    failed: int = 0
    slow: int = 0


WindowRow = tuple[float, int, int, int]  # age in seconds of a bucket's start, and its counts


class CallWindow:
    """Counts of the calls of the last ``window_s`` seconds; a bucket is dropped as a whole."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._buckets: deque[tuple[float, CallCounts]] = deque()  # (start, counts), oldest first

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """Adds a call that ended now; old calls are dropped when the counts are next read."""
        if not self._buckets or now - self._buckets[-1][0] >= self._window_s / BUCKETS:
            self._buckets.append((now, CallCounts()))
        start, counts = self._buckets.pop()
        grown = CallCounts(counts.calls + 1, counts.failed + failed, counts.slow + slow)
        self._buckets.append((start, grown))

    def counts(self, now: float) -> CallCounts:
        """The counts of all calls in the window."""
        self._forget(now)
        return CallCounts(*map(sum, zip(*(counts for _, counts in self._buckets), strict=True)))

    def snapshot(self, now: float) -> list[WindowRow]:
        """The buckets with ages instead of times, for another clock."""
        self._forget(now)
        return [(now - start, *counts) for start, counts in self._buckets]

    def adopt(self, rows: list[WindowRow], now: float) -> None:
        """Replaces all buckets by those of a snapshot."""
        self._buckets = deque((now - age_s, CallCounts(*counts)) for age_s, *counts in rows)

    def _forget(self, now: float) -> None:
        while self._buckets and now - self._buckets[0][0] >= self._window_s:
            self._buckets.popleft()


class BreakerSnapshot(TypedDict):
    """The whole state of a breaker; durations instead of times, because clocks differ."""

    state: str
    generation: int
    commands: int  # number of operator commands so far
    changed_s_ago: float  # since a result or an operator last changed the state; never: infinite
    consecutive: int  # failures in a row
    successes: int
    cooldown_s: float  # the last cooldown without its jitter, 0.0 for none yet
    retry_in_s: float
    leases: dict[str, float]  # seconds until each expires
    window: list[WindowRow]


def call_result(error: ModelError | None) -> CallResult:
    """The result of a call that ended with ``error`` (None: with an answer)."""
    if error is None:
        return CallResult(Verdict.SUCCESS)
    if isinstance(error, RuntimeCircuitOpenError):
        return CallResult(Verdict.NO_INFORMATION, error.retry_after_s)
    return CallResult(Verdict.FAILURE if error.counts else Verdict.IGNORED)


class Breaker:
    """Allows calls, refuses them, and probes; see the table above.

    Args:
        settings: thresholds and durations.
        jitter: a number in [0, 1) whenever a cooldown begins.
        lease_ids: names for probes, unique in all processes that share this breaker.
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
        """A permit for one call, or a refusal with the time to wait."""
        wait_s = self.retry_in_s(now)
        if wait_s > 0:
            return Refusal(wait_s)
        if self._state is not BreakerState.HALF_OPEN:
            return Permit(self._generation)
        lease = next(self._lease_ids)
        self._leases[lease] = now + self._settings.probe_lease_s
        return Permit(self._generation, lease)

    def record(self, permit: Permit, result: CallResult, duration_s: float, now: float) -> None:
        """Counts the result of the call of a permit; a late result is dropped."""
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
        """The state now."""
        self._advance(now)
        return self._state

    def retry_in_s(self, now: float) -> float:
        """Seconds until ``acquire`` may permit a call; 0.0 if it would now."""
        self._advance(now)
        if self._state is BreakerState.OPEN:
            return self._open_until - now
        if self._state is BreakerState.FORCED_OPEN:
            return self._settings.cooldown_s  # it ends by a command only
        if self._state is BreakerState.HALF_OPEN and len(self._leases) >= self._settings.probes:
            return sorted(self._leases.values())[-self._settings.probes] - now
        return 0.0

    def obey(self, command: BreakerCommand, now: float) -> None:
        """Applies an operator's command; a forced state lasts until the next command."""
        self._enter(_COMMANDED[command])
        self._commands += 1
        self._changed_at = now
        self._cooldown_s = 0.0

    def snapshot(self, now: float) -> BreakerSnapshot:
        """The whole state, for another process."""
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
        """Replaces the whole state by that of a snapshot."""
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
        """Applies the passage of time: a cooldown ends, leases expire."""
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
        """Longer after a failed probe, and after a recovery that lasted less than one window."""
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
        self._window = CallWindow(self._settings.window_s)


SAME_MOMENT_S = 1.0  # a shorter difference may be the time that a message took
BreakerSnapshots = Mapping[str, BreakerSnapshot]


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one call, for the breaker of a name."""

    name: str
    permit: Permit
    result: CallResult
    duration_s: float


class Breakers:
    """Breakers by name; each is created when it is first used.

    Names are pairs of a registered model and a configured runtime, so their number is bounded.
    ``owner`` distinguishes the probes given here from those of other processes.
    """

    def __init__(
        self, settings: CircuitBreakerSection, jitter: Callable[[], float], owner: str
    ) -> None:
        self._settings = settings
        self._jitter = jitter
        self._lease_ids = (f"{owner}-{n}" for n in count(1))
        self._by_name: dict[str, Breaker] = {}

    def acquire(self, name: str, now: float) -> Permit | Refusal:
        """See `Breaker.acquire`; the same for the next three methods."""
        return self._breaker(name).acquire(now)

    def record(self, report: Report, now: float) -> None:
        """Counts the result of a call."""
        breaker = self._breaker(report.name)
        breaker.record(report.permit, report.result, report.duration_s, now)

    def state(self, name: str, now: float) -> BreakerState:
        """The state now; closed for a name that was never used."""
        breaker = self._by_name.get(name)
        return BreakerState.CLOSED if breaker is None else breaker.state(now)

    def retry_in_s(self, name: str, now: float) -> float:
        """Seconds for which ``acquire`` would refuse, 0.0 if it would not."""
        breaker = self._by_name.get(name)
        return 0.0 if breaker is None else breaker.retry_in_s(now)

    def command(self, names: Sequence[str], command: BreakerCommand, now: float) -> None:
        """Applies an operator's command to the breakers of these names."""
        for name in names:
            self._breaker(name).obey(command, now)

    def snapshot(self, now: float) -> BreakerSnapshots:
        """All breakers, for another process with another clock."""
        return {name: breaker.snapshot(now) for name, breaker in self._by_name.items()}

    def replace_all(self, theirs: BreakerSnapshots, now: float) -> None:
        """Replaces all breakers; those that are not among ``theirs`` are as never used."""
        self._by_name.clear()
        for name, snapshot in theirs.items():
            self._breaker(name).adopt(snapshot, now)

    def learn(self, theirs: BreakerSnapshots, now: float) -> None:
        """Takes over only the breakers that are more recent, by the rules of `shared`."""
        ours = self.snapshot(now)
        for name, snapshot in theirs.items():
            mine = ours.get(name, snapshot)
            kept = (snapshot if _is_more_recent(snapshot, mine) else mine).copy()
            kept["leases"] = mine["leases"] | snapshot["leases"]
            self._breaker(name).adopt(kept, now)

    def _breaker(self, name: str) -> Breaker:
        if name not in self._by_name:
            self._by_name[name] = Breaker(self._settings, self._jitter, self._lease_ids)
        return self._by_name[name]


def _is_more_recent(theirs: BreakerSnapshot, ours: BreakerSnapshot) -> bool:
    if theirs["commands"] != ours["commands"]:
        return theirs["commands"] > ours["commands"]
    return theirs["changed_s_ago"] + SAME_MOMENT_S < ours["changed_s_ago"]
