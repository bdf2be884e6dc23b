"""Several runtimes behind one Runner: which of them an item goes to, and where it goes instead.

    its own     by the replica's rank, so that every runtime has about as many replicas. Where
                there are fewer replicas than runtimes a replica has several of its own
    another     while none of its own may be called, or when they failed this very item

Among equals the one with the least under way is taken, and in a draw the next in turn. Each runtime
has a breaker and a queue of its own for each model: one that is dead costs nobody else anything.
"""

import itertools
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from runner.types import BatchKey

T = TypeVar("T")
R = TypeVar("R")

Tiers = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ReplicaRank:
    """Where a replica stands among its like: ``rank`` from 0, and how many there are."""

    rank: int
    replicas: int


@dataclass(frozen=True, slots=True)
class RuntimeTarget:
    """What items must share to travel in one call: the runtime by its index, and the batch key.

    ``queue_name`` names the pair of runtime and model, and their breaker.
    """

    runtime: int
    queue_name: str
    key: BatchKey


class Runtimes:
    """The runtimes by index, as one replica sees them.

    Args:
        count: how many there are, at least one.
        place: of this replica now: ranks move when replicas come and go.
    """

    def __init__(self, count: int, place: Callable[[], ReplicaRank]) -> None:
        self._count = count
        self._place = place
        self._turns = itertools.count()
        self._queue_names: dict[str, tuple[str, ...]] = {}

    def __len__(self) -> int:
        """How many there are."""
        return self._count

    def queue_names(self, model: str) -> tuple[str, ...]:
        """What the queue and breaker of a model are called at each runtime.

        Runtimes are numbered as in the configuration, from 1: callers may see these names, and
        addresses are none of their business. A lone runtime needs no number.
        """
        known = self._queue_names.get(model)
        if known is None:
            several = tuple(f"{model}@{number}" for number in range(1, self._count + 1))
            known = self._queue_names[model] = several if self._count > 1 else (model,)
        return known

    def choose(self, usable: Collection[int], load: Callable[[int], int]) -> int | None:
        """The runtime to call of those that are ``usable``; None when there is none.

        ``load`` says how much this replica has under way at a runtime.
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


def tiers(rank: int, replicas: int, count: int) -> Tiers:
    """The runtimes that are a replica's own, and the others.

    >>> tiers(rank=3, replicas=4, count=2)
    ((1,), (0,))
    >>> tiers(rank=1, replicas=2, count=5)
    ((1, 3), (0, 2, 4))
    """
    step = min(replicas, count)
    own = tuple(range(rank % step, count, step))
    return own, tuple(runtime for runtime in range(count) if runtime not in own)


class RoutedCalls(Generic[T, R]):
    """The calls of all runtimes as one, by the route."""

    def __init__(self, calls: Sequence[Callable[[BatchKey, Sequence[T]], Awaitable[R]]]) -> None:
        self._calls = calls

    async def __call__(self, route: RuntimeTarget, items: Sequence[T]) -> R:
        """What the route's runtime gives for a batch."""
        return await self._calls[route.runtime](route.key, items)
