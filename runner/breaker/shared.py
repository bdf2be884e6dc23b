"""How the replicas of an application come to agree about breakers: one actor, and a copy in each.

    replica, on its copy                              actor
    ------------------------------------------------  --------------------------------------------
    decides about every call, and counts its result
    several times a second: the results since the
    last exchange                                ---> counts them
    takes over all breakers, and counts what     <--- all its breakers
    came in meanwhile
    before a probe: the same, asking for it      ---> the same, and gives or refuses the probe
    where the answer has no breakers: sends all  <--- a replica that does not know this actor, or
    breakers of its copy                              lost it for a while: asks for its breakers
                                                 ---> takes over what the replica knows better

Nothing is sent twice: a result that gets lost with the actor or on the way is missing from a count,
and that is all. A replica that cannot reach the actor decides on its copy, probes included, and
tells what it learned at the next contact. Of two breakers of one name the actor keeps

    1. the one that had more operator commands: what an operator said holds until the next command;
    2. else the one that a result or command changed later, by more than `SAME_MOMENT_S`;
    3. else its own.

The breaker that is kept is kept whole: counts are never added up, both may hold the same calls.
Only the leases of both stay, so that each probe that is out keeps its place.
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
    """How one call ended, for the breaker of a name."""

    name: str
    permit: Permit
    result: CallResult
    duration_s: float


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """What a replica tells the actor.

    Attributes:
        actor: the life of the actor that the copy comes from, None for none.
        reports: results since the last request.
        probe: the name whose breaker is asked for a probe.
        copy: all breakers of the replica, when the actor asked for them.
    """

    actor: str | None
    reports: Sequence[Report] = ()
    probe: str | None = None
    copy: BreakerSnapshots | None = None


@dataclass(frozen=True, slots=True)
class SyncReply:
    """What the actor answers.

    Attributes:
        actor: names this life of the actor; a restarted one has another name.
        breakers: all it knows; None asks the replica for its copy.
        answer: to the request for a probe.
    """

    actor: str
    breakers: BreakerSnapshots | None = None
    answer: Permit | Refusal | None = None


class Breakers:
    """Breakers by name; each comes into being when it is first used.

    Names are pairs of a registered model and a configured runtime, so there are never many.

    Args:
        settings: of every breaker.
        jitter: a number in [0, 1) whenever a cooldown begins.
        owner: distinguishes the probes given here from those of other processes.
    """

    def __init__(
        self, settings: CircuitBreakerSection, jitter: Callable[[], float], owner: str
    ) -> None:
        self._settings = settings
        self._jitter = jitter
        self._lease_ids = (f"{owner}-{n}" for n in count(1))
        self._by_name: dict[str, Breaker] = {}

    def acquire(self, name: str, now: float) -> Permit | Refusal:
        """A permit for one call, or how long to stay away."""
        return self._breaker(name).acquire(now)

    def record(self, report: Report, now: float) -> None:
        """Count how a call ended."""
        breaker = self._breaker(report.name)
        breaker.record(report.permit, report.result, report.duration_s, now)

    def state(self, name: str, now: float) -> BreakerState:
        """The state at this moment; a name never used is closed."""
        breaker = self._by_name.get(name)
        return BreakerState.CLOSED if breaker is None else breaker.state(now)

    def retry_in_s(self, name: str, now: float) -> float:
        """How long ``acquire`` would refuse, 0.0 if it would not."""
        breaker = self._by_name.get(name)
        return 0.0 if breaker is None else breaker.retry_in_s(now)

    def command(self, names: Sequence[str], command: BreakerCommand, now: float) -> None:
        """Do what an operator says to the breakers of these names."""
        for name in names:
            self._breaker(name).obey(command, now)

    def snapshot(self, now: float) -> BreakerSnapshots:
        """All breakers, fit for another process with another clock."""
        return {name: breaker.snapshot(now) for name, breaker in self._by_name.items()}

    def adopt(self, theirs: BreakerSnapshots, now: float) -> None:
        """Take over these breakers; those of other names stay as they are."""
        for name, snapshot in theirs.items():
            self._breaker(name).adopt(snapshot, now)

    def learn(self, theirs: BreakerSnapshots, now: float) -> None:
        """Take over only those breakers that know better, by the rule above."""
        ours = self.snapshot(now)
        for name, snapshot in theirs.items():
            mine = ours.get(name, snapshot)
            better = (snapshot if _knows_better(snapshot, mine) else mine).copy()
            better["leases"] = mine["leases"] | snapshot["leases"]
            self._breaker(name).adopt(better, now)

    def _breaker(self, name: str) -> Breaker:
        if name not in self._by_name:
            self._by_name[name] = Breaker(self._settings, self._jitter, self._lease_ids)
        return self._by_name[name]


class SharedBreakers:
    """The actor's side: the breakers that hold for all replicas.

    Args:
        settings: of every breaker.
        clock: monotonic seconds of the actor's process.
        jitter: a number in [0, 1) whenever a cooldown begins.
        life: a name that no other life of the actor has.
    """

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
        """Count what a replica reports and tell it all breakers, or ask it for its own."""
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
        """Do what an operator says to the breakers of these names; the state it leads to."""
        now = self._clock()
        self._breakers.command(names, command, now)
        return self._breakers.state(names[0], now)


def _knows_better(theirs: BreakerSnapshot, ours: BreakerSnapshot) -> bool:
    if theirs["commands"] != ours["commands"]:
        return theirs["commands"] > ours["commands"]
    return theirs["changed_s_ago"] + SAME_MOMENT_S < ours["changed_s_ago"]
