"""Several runtimes behind one Runner: which of them an item is sent to.

    its own     by the replica's rank, so that every runtime has about as many replicas. With fewer
                replicas than runtimes a replica has several of its own
    another     while none of its own may be called, or when they failed for this item

Within a group the runtime with the fewest items under way is chosen; equal ones take turns. Each
runtime has its own breaker and queue for each model: a dead runtime does not slow the others.
"""

import itertools
from collections.abc import Callable, Collection
from dataclasses import dataclass

from runner.types import BatchKey


@dataclass(frozen=True, slots=True)
class ReplicaRank:
    """The rank of a replica, from 0, and the number of replicas of its deployment."""

    rank: int
    replicas: int


@dataclass(frozen=True, slots=True)
class RuntimeTarget:
    """What the items of a call share."""

    runtime: int  # its index
    queue_name: str  # of the model queue, and of the breaker, at this runtime
    key: BatchKey


class Runtimes:
    """The runtimes by index, as one replica sees them.

    Args:
        count: how many there are, at least one.
        place: the current rank of this replica; ranks change when replicas start or stop.
    """

    def __init__(self, count: int, place: Callable[[], ReplicaRank]) -> None:
        self._count = count
        self._place = place
        self._turns = itertools.count()

    def __len__(self) -> int:
        """How many there are."""
        return self._count

    def queue_names(self, model: str) -> tuple[str, ...]:
        """The name of the queue and breaker of a model at each runtime.

        Runtimes are numbered as in the configuration, from 1: callers may see these names, but not
        addresses. A single runtime has no number.
        """
        if self._count == 1:
            return (model,)
        return tuple(f"{model}@{number}" for number in range(1, self._count + 1))

    def choose(self, usable: Collection[int], load: Callable[[int], int]) -> int | None:
        """The runtime to call, among the ``usable`` ones; None when there is none.

        ``load`` returns how many items this replica has under way at a runtime.
        """
        if self._count == 1 or not usable:
            return next(iter(usable), None)
        place, turn = self._place(), next(self._turns)
        step = min(place.replicas, self._count)
        own = [runtime for runtime in usable if runtime % step == place.rank % step]
        found = own or list(usable)
        first = turn % len(found)
        return min(found[first:] + found[:first], key=load)
