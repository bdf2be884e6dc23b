"""How the replicas of an application agree about breakers: one actor, and a copy in each replica.

    replica, on its copy                              actor
    ------------------------------------------------  --------------------------------------------
    decides about every call, and counts its result
    several times a second: sends the results
    since the last exchange                      ---> counts them
    replaces its copy, and counts the results    <--- sends all its breakers
    since its request again
    before a probe: the same, with a request     ---> the same, and allows or refuses the probe
    if the reply has no breakers: sends all      <--- if the copy is of another actor, or of none:
    breakers of its copy                              sends no breakers
                                                 ---> takes over those that are more recent

Nothing is sent twice: a result that is lost with the actor or on the network is missing from a
count, with no other effect. A replica that cannot reach the actor decides on its copy, probes
included, and sends its copy at the next contact. Of two breakers of one name the actor keeps

    1. the one with more operator commands: a command holds until the next command;
    2. else the one that a result or command changed later, by more than `SAME_MOMENT_S`;
    3. else its own.

It keeps that breaker whole: counts are never added up, because both may contain the same calls.
Only the leases of both are kept, so that every running probe stays counted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from runner.breaker.state_machine import Breaker, BreakerSnapshot, CallResult, Permit, Refusal
from runner.config.sections import CircuitBreakerSection
from runner.types import BreakerCommand, BreakerState

SAME_MOMENT_S = 1.0  # a shorter difference may be the time that a message took

BreakerSnapshots = Mapping[str, BreakerSnapshot]


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one call, for the breaker of a name."""

    name: str
    permit: Permit
    result: CallResult
    duration_s: float


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """A replica's message to the actor."""

    actor: str | None  # instance that the copy comes from; None: no contact yet, or lost
    reports: Sequence[Report] = ()  # results since the last request
    probe: str | None = None  # the name of the breaker that should allow a probe
    copy: BreakerSnapshots | None = None  # all breakers of the replica, if the actor asked for them


@dataclass(frozen=True, slots=True)
class SyncReply:
    """The actor's reply; without ``breakers`` it asks the replica for its copy."""

    actor: str  # id of this instance; a restarted actor has another one
    breakers: BreakerSnapshots | None = None
    answer: Permit | Refusal | None = None  # to the request for a probe


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
        """Takes over only the breakers that are more recent, by the rules above."""
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


class SharedBreakers:
    """The actor's side; ``life`` is an id that no other instance of the actor has."""

    def __init__(
        self,
        settings: CircuitBreakerSection,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        life: str,
    ) -> None:
        self._breakers = Breakers(settings, jitter, life)
        self._clock = clock
        self._life = life

    def sync(self, request: SyncRequest) -> SyncReply:
        """Counts a replica's results and returns all breakers, or asks for its copy."""
        now = self._clock()
        if request.copy is not None:
            self._breakers.learn(request.copy, now)
        elif request.actor != self._life:
            return SyncReply(self._life)  # its results are in the copy that it sends next
        for report in request.reports:
            self._breakers.record(report, now)
        answer = None if request.probe is None else self._breakers.acquire(request.probe, now)
        return SyncReply(self._life, self._breakers.snapshot(now), answer)

    def command(self, names: Sequence[str], command: BreakerCommand) -> BreakerState:
        """Applies an operator's command to these breakers; returns the resulting state."""
        now = self._clock()
        self._breakers.command(names, command, now)
        return self._breakers.state(names[0], now)


def _is_more_recent(theirs: BreakerSnapshot, ours: BreakerSnapshot) -> bool:
    if theirs["commands"] != ours["commands"]:
        return theirs["commands"] > ours["commands"]
    return theirs["changed_s_ago"] + SAME_MOMENT_S < ours["changed_s_ago"]
