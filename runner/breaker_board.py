"""The breakers of all models by name, and how two boards that lost each other become one.

The same board stands in the shared actor, where it is the truth, and in every replica, where it is
the copy that decides. As long as both know each other the copy simply adopts the truth. When the
actor lost its state, or a replica went on alone, the actor merges what replicas bring; for each
name the first row that tells the two apart decides:

    what differs                         who wins, and why
    -----------------------------------  -----------------------------------------------------------
    only one side has a breaker          that side: there is nothing to set against it
    the number of the last command       the higher: an operator's word stands until the next one,
                                         and a replica that missed it must not undo it
    when a result or an operator last    the younger: it has seen what the other has not, be it an
    changed the state, by over 1 s (*)   outage or a recovery; never changed is the oldest of all
    the generation                       the higher: it has come further from the same change
    calls in the window, then failures   the more: it has seen more of the same state
    in a row
    nothing                              the one who was here first

    (*) The mere end of a cooldown is no evidence, so a copy that idled into half open does not
        outvote one whose probe closed the door. Under a second it may be the time in transit.

The winner is taken whole; counts are never added up, because both may hold the same calls. Only
its generation becomes the higher of the two, so that no result from the loser's past is taken for
one of the present, and it takes the leases of both: every probe known to be out keeps its place.
"""

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from itertools import count

from runner.breaker import Breaker, BreakerSnapshot, Outcome, Permit, Refusal
from runner.sections import CircuitBreakerSection
from runner.types import BreakerState

SAME_MOMENT_S = 1.0
MAX_BREAKERS = 256  # far over any model registry: a bound, should names ever come from outside

BoardSnapshot = Mapping[str, BreakerSnapshot]

_WORTH = {  # what is lost by forgetting a breaker, least first
    BreakerState.CLOSED: 0,
    BreakerState.HALF_OPEN: 1,
    BreakerState.OPEN: 1,
    BreakerState.FORCED_OPEN: 2,
    BreakerState.FORCED_CLOSED: 2,
}


class Command(StrEnum):
    """What an operator can order."""

    FORCE_OPEN = "force_open"
    FORCE_CLOSE = "force_close"
    RESET = "reset"


class BreakerBoard:
    """Breakers that come into being when first used; the least valuable leaves when it is full.

    Args:
        settings: of every breaker.
        jitter: a number in [0, 1) whenever a cooldown begins.
        owner: distinguishes this board from all others that probe the same models.
        max_breakers: how many names are kept.
    """

    def __init__(
        self,
        settings: CircuitBreakerSection,
        jitter: Callable[[], float],
        owner: str,
        max_breakers: int = MAX_BREAKERS,
    ) -> None:
        self._settings = settings
        self._jitter = jitter
        self._lease_ids = (f"{owner}-{n}" for n in count(1))
        self._max_breakers = max_breakers
        self._breakers: dict[str, Breaker] = {}  # least recently used first

    def acquire(self, name: str, now: float) -> Permit | Refusal:
        """Leave for one call, or how long to stay away."""
        return self._use(name, now).acquire(now)

    def record(
        self, name: str, permit: Permit, outcome: Outcome, duration_s: float, now: float
    ) -> None:
        """How the call of a permit ended."""
        self._use(name, now).record(permit, outcome, duration_s, now)

    def state(self, name: str, now: float) -> BreakerState:
        """The state at this moment; a name never used is closed."""
        breaker = self._breakers.get(name)
        return BreakerState.CLOSED if breaker is None else breaker.state(now)

    def retry_in_s(self, name: str, now: float) -> float:
        """How long ``acquire`` would refuse, 0.0 if it would not."""
        breaker = self._breakers.get(name)
        return 0.0 if breaker is None else breaker.retry_in_s(now)

    def command(self, name: str, command: Command, number: int, now: float) -> None:
        """Do as the operator says; ``number`` is higher than that of any earlier command."""
        breaker = self._use(name, now)
        orders = {
            Command.FORCE_OPEN: breaker.force_open,
            Command.FORCE_CLOSE: breaker.force_close,
            Command.RESET: breaker.reset,
        }
        orders[command](now, number)

    def snapshot(self, now: float) -> BoardSnapshot:
        """Every breaker, fit for JSON and for another clock."""
        return {name: breaker.snapshot(now) for name, breaker in self._breakers.items()}

    def adopt(self, entries: BoardSnapshot, now: float) -> None:
        """Hold what the truth says about the names it knows; other names stay as they are."""
        for name, entry in entries.items():
            self._use(name, now).adopt(entry, now)

    def merge(self, entries: BoardSnapshot, now: float) -> None:
        """Take from another board what it knows better, by the table above."""
        for name, theirs in entries.items():
            breaker = self._use(name, now)
            ours = breaker.snapshot(now)
            winner = theirs if _knows_better(theirs, ours) else ours
            merged = winner.copy()
            merged["generation"] = max(theirs["generation"], ours["generation"])
            merged["leases"] = ours["leases"] | theirs["leases"]
            breaker.adopt(merged, now)

    def _use(self, name: str, now: float) -> Breaker:
        breaker = self._breakers.pop(name, None)
        if breaker is None:
            breaker = Breaker(self._settings, self._jitter, self._lease_ids)
            if len(self._breakers) >= self._max_breakers:
                del self._breakers[self._least_valuable(now)]
        self._breakers[name] = breaker
        return breaker

    def _least_valuable(self, now: float) -> str:
        """Closed before open before forced; among equals the one that idled longest."""
        return min(self._breakers, key=lambda name: _WORTH[self._breakers[name].state(now)])


def _knows_better(theirs: BreakerSnapshot, ours: BreakerSnapshot) -> bool:
    """Whether ``theirs`` wins by the merge table; a fresh breaker loses to any knowledge."""
    if theirs["command"] != ours["command"]:
        return theirs["command"] > ours["command"]
    lead_s = _age_s(ours) - _age_s(theirs)
    if abs(lead_s) > SAME_MOMENT_S:  # false also for two that never changed: inf - inf is NaN
        return lead_s > 0
    return _progress(theirs) > _progress(ours)


def _age_s(entry: BreakerSnapshot) -> float:
    age_s = entry["evidence_age_s"]
    return math.inf if age_s is None else age_s


def _progress(entry: BreakerSnapshot) -> tuple[int, int, int]:
    calls = sum(calls for _, calls, _, _ in entry["window"])
    return entry["generation"], calls, entry["consecutive"]
