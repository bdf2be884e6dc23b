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

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runner.breaker.state_machine import Breakers, BreakerSnapshots, Permit, Refusal, Report
from runner.config.sections import CircuitBreakerSection
from runner.types import BreakerCommand, BreakerState


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
