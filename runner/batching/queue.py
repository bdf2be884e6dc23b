"""The waiting items of one model queue: which go next, which are refused, which are too late.

A plain data structure: no clock, no awaiting. The rules:

    within a key      order of arrival, interactive items before bulk ones
    between keys      the key that has waited longest for a call goes next, so that a key with many
                      items delays another key by one call, not by all its items
    between classes   interactive keys first; bulk items fill free places of a call. Bulk gets a
                      fifth of what is sent: after four calls in which it had less, the bulk key
                      that has waited longest gets a call of its own
    when full         a bulk item is refused; an interactive one takes the newest bulk item's place
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, TypeVar

from runner.batching.batch_policy import BatchLimits, BatchPlan, plan_batch
from runner.errors import QueueFullError
from runner.types import Priority

K = TypeVar("K", bound=Hashable)
W = TypeVar("W", bound="WaitingItem[Any]")

_BULK_TURN_AFTER = 4  # bulk work gets at least a fifth, however busy the rest is
_SLACK_ENTRIES = 64  # stale deadlines kept before a clean-up is worth its cost


@dataclass(slots=True, eq=False)
class WaitingItem(Generic[K]):
    """One queued item; times are on the dispatcher's clock, in seconds."""

    key: K
    deadline: float
    size_bytes: int
    priority: Priority
    arrived_at: float
    queued: bool = field(default=False, init=False)


class ItemQueue(Generic[K, W]):
    """A bounded queue of ``WaitingItem`` with O(log n) work per item."""

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._interactive: _KeyRing[K, W] = _KeyRing()
        self._bulk: _KeyRing[K, W] = _KeyRing()
        self._bulk_in_order: dict[W, None] = {}
        self._count = 0
        self._deadlines: list[tuple[float, int, W]] = []
        self._serial = count()
        self._calls_past_bulk = 0

    def __len__(self) -> int:
        """Items in the queue."""
        return self._count

    @property
    def bulk_count(self) -> int:
        """Bulk items in the queue."""
        return len(self._bulk_in_order)

    @property
    def has_interactive(self) -> bool:
        """Whether an interactive item is in the queue."""
        return bool(self._interactive)

    def only_key(self) -> K | None:
        """The key of all items, if they have one key and are all interactive."""
        return self._interactive.first() if len(self._interactive) == 1 and not self._bulk else None

    def oldest_arrival(self) -> float | None:
        """When the oldest item arrived; None when the queue is empty."""
        heads = (next(iter(q)) for ring in (self._interactive, self._bulk) for q in ring.queues())
        return min((item.arrived_at for item in heads), default=None)

    def put(self, item: W) -> W | None:
        """Adds ``item``; returns the bulk item that was removed to make room, if any.

        Raises:
            QueueFullError: the queue is full and has no bulk item to remove.
        """
        evicted = self._make_room(item.priority) if self._count >= self._max_items else None
        item.queued = True
        self._count += 1
        self._ring(item).add(item)
        if item.priority is Priority.BULK:
            self._bulk_in_order[item] = None
        self._note_deadline(item)
        return evicted

    def remove(self, item: W) -> None:
        """Removes ``item``; does nothing when it is not in the queue."""
        if not item.queued:
            return
        item.queued = False
        self._count -= 1
        self._ring(item).discard(item)
        self._bulk_in_order.pop(item, None)

    def clear(self) -> list[W]:
        """Removes and returns all queued items."""
        return self._remove_all([item for _, _, item in self._deadlines if item.queued])

    def next_deadline(self) -> float:
        """The earliest deadline of a queued item, infinity when the queue is empty."""
        while self._deadlines and not self._deadlines[0][2].queued:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else float("inf")

    def expire(self, now: float) -> list[W]:
        """Removes and returns the items whose deadline has passed."""
        expired = []
        while self.next_deadline() <= now:
            expired.append(heapq.heappop(self._deadlines)[2])
        return self._remove_all(expired)

    def cut(
        self, limits_of: Callable[[K], BatchLimits], *, hold_bulk: bool = False
    ) -> BatchPlan[W]:
        """The next call of a queue that is not empty; removes the sent and the lost items.

        With ``hold_bulk`` bulk items stay in the queue while interactive items wait.
        """
        bulk_turn = bool(self._bulk) and (
            not self._interactive or (self._calls_past_bulk >= _BULK_TURN_AFTER and not hold_bulk)
        )
        key = (self._bulk if bulk_turn else self._interactive).first()
        limits = limits_of(key)
        interactive, bulk = self._interactive.items(key), self._bulk.items(key)
        places = limits.max_bulk if bulk_turn else max(0, limits.max_bulk - len(interactive))
        bulk = [] if hold_bulk and self._interactive else bulk[:places]
        main, fill = (bulk, interactive) if bulk_turn else (interactive, bulk)
        plan = plan_batch(main, fill, limits)
        bulk_served = bulk_turn or self._gives_bulk_a_fifth(key, plan.send)
        self._remove_all(plan.send)
        self._remove_all(plan.lost)
        self._end_turn(key, plan.send)
        self._calls_past_bulk = 0 if bulk_served or not self._bulk else self._calls_past_bulk + 1
        return plan

    def _gives_bulk_a_fifth(self, key: K, sent: Sequence[W]) -> bool:
        """Whether a fifth of the call is bulk, of the bulk key that has waited longest."""
        bulk_sent = sum(item.priority is Priority.BULK for item in sent)
        return bulk_sent > 0 and self._bulk.first() == key and 5 * bulk_sent >= len(sent)

    def _end_turn(self, key: K, sent: Iterable[W]) -> None:
        """Moves the key behind the other keys, in each class of which items were sent."""
        for priority in {item.priority for item in sent}:
            (self._bulk if priority is Priority.BULK else self._interactive).to_the_end(key)

    def _remove_all(self, items: list[W]) -> list[W]:
        for item in items:
            self.remove(item)
        return items

    def _make_room(self, priority: Priority) -> W:
        if priority is Priority.BULK or not self._bulk_in_order:
            raise QueueFullError
        newest, _ = self._bulk_in_order.popitem()
        self.remove(newest)
        return newest

    def _note_deadline(self, item: W) -> None:
        heapq.heappush(self._deadlines, (item.deadline, next(self._serial), item))
        if len(self._deadlines) > 2 * self._count + _SLACK_ENTRIES:
            self._deadlines = [entry for entry in self._deadlines if entry[2].queued]
            heapq.heapify(self._deadlines)

    def _ring(self, item: W) -> "_KeyRing[K, W]":
        return self._bulk if item.priority is Priority.BULK else self._interactive


class _KeyRing(Generic[K, W]):
    """Items of one class by key, in order of arrival; the longest waiting key is first."""

    def __init__(self) -> None:
        self._queues: OrderedDict[K, dict[W, None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._queues)

    def first(self) -> K:
        return next(iter(self._queues))

    def items(self, key: K) -> list[W]:
        return list(self._queues.get(key, ()))

    def queues(self) -> Iterable[Iterable[W]]:
        return self._queues.values()

    def add(self, item: W) -> None:
        self._queues.setdefault(item.key, {})[item] = None

    def discard(self, item: W) -> None:
        queue = self._queues[item.key]
        del queue[item]
        if not queue:
            del self._queues[item.key]

    def to_the_end(self, key: K) -> None:
        if key in self._queues:
            self._queues.move_to_end(key)
