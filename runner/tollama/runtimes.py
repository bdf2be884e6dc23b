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
    """What the items of a call share: the index of the runtime, and the batch key.

    ``queue_name`` is the name of the model queue and of the breaker at this runtime.
    """

    runtime: int
    queue_name: str
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
        if self._count == 1:
            return 0 if usable else None
        place, turn = self._place(), next(self._turns)
        for tier in tiers(place.rank, place.replicas, self._count):
            found = [runtime for runtime in tier if runtime in usable]
            if found:
                first = turn % len(found)
                return min(found[first:] + found[:first], key=load)
        return None


def tiers(rank: int, replicas: int, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The runtimes that are a replica's own, and the others.

    >>> tiers(rank=3, replicas=4, count=2)
    ((1,), (0,))
    >>> tiers(rank=1, replicas=2, count=5)
    ((1, 3), (0, 2, 4))
    """
    step = min(replicas, count)
    own = tuple(range(rank % step, count, step))
    return own, tuple(runtime for runtime in range(count) if runtime not in own)
