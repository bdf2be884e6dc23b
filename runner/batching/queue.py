"""The waiting items of one model queue: which go next, which are refused, which are too late.

A plain data structure: no clock, no awaiting. The rules of the line:

    within a key      order of arrival, interactive items before bulk ones
    between keys      the key that has waited longest for a call goes next, so that a key with a
                      long line costs another key one call, not the whole line
    between classes   interactive keys first; a bulk item travels along where a call has places
                      left, and after ``_BULK_TURN_AFTER`` calls that left bulk items behind one
                      call is made for their sake, of at most ``bulk_batch_size`` of them; while
                      the model queue has too much to do (``admission``), neither
    when full         a bulk item is refused; an interactive one takes the newest bulk item's place
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any, Generic, TypeVar

from runner.batching.batch_policy import BatchLimits, BatchPlan, plan_batch
from runner.errors import QueueFullError
from runner.types import Priority

K = TypeVar("K", bound=Hashable)
W = TypeVar("W", bound="WaitingItem[Any]")

_BULK_TURN_AFTER = 4  # bulk work gets at least every fifth call, however busy the rest is
_SLACK_ENTRIES = 64  # stale deadlines kept before a clean-up is worth its time


@dataclass(slots=True, eq=False)
class WaitingItem(Generic[K]):
    """One item in line; times are on the dispatcher's clock, in seconds."""

    key: K
    deadline: float
    size_bytes: int
    priority: Priority
    arrived_at: float
    queued: bool = field(default=False, init=False)


class ItemQueue(Generic[K, W]):
    """A bounded queue of ``WaitingItem`` with O(log n) work per item."""

    def __init__(self, max_items: int, bulk_batch_size: int) -> None:
        self._max_items = max_items
        self._bulk_batch_size = bulk_batch_size
        self._urgent: _KeyRing[K, W] = _KeyRing()
        self._bulk: _KeyRing[K, W] = _KeyRing()
        self._bulk_in_order: dict[W, None] = {}
        self._count = 0
        self._deadlines: list[tuple[float, int, W]] = []
        self._serial = count()
        self._calls_past_bulk = 0

    def __len__(self) -> int:
        """Items in line."""
        return self._count

    @property
    def bulk_count(self) -> int:
        """Bulk items in line."""
        return len(self._bulk_in_order)

    def oldest_arrival(self) -> float | None:
        """When the item that waits longest came in; None when nobody waits."""
        heads = (next(iter(line)) for ring in (self._urgent, self._bulk) for line in ring.lines())
        return min((item.arrived_at for item in heads), default=None)

    def put(self, item: W) -> W | None:
        """Lets ``item`` join the line; the bulk item that lost its place to it, if any.

        Raises:
            QueueFullError: the line is full and has no bulk item that could make room.
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
        """Takes ``item`` out of the line; nothing happens when it has left already."""
        if not item.queued:
            return
        item.queued = False
        self._count -= 1
        self._ring(item).discard(item)
        self._bulk_in_order.pop(item, None)

    def clear(self) -> list[W]:
        """Removes and returns all queued items."""
        return self._leave([item for _, _, item in self._deadlines if item.queued])

    def next_deadline(self) -> float:
        """The earliest deadline in line, infinity when nobody waits."""
        while self._deadlines and not self._deadlines[0][2].queued:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else float("inf")

    def expire(self, now: float) -> list[W]:
        """Those whose deadline has come; they leave the line."""
        expired = []
        while self.next_deadline() <= now:
            expired.append(heapq.heappop(self._deadlines)[2])
        return self._leave(expired)

    def cut(
        self, limits_of: Callable[[K], BatchLimits], *, hold_bulk: bool = False
    ) -> BatchPlan[W]:
        """The next call of a line that is not empty; sent and lost items leave the line.

        With ``hold_bulk`` bulk items stay in line for as long as others wait.
        """
        bulk_turn = bool(self._bulk) and (
            not self._urgent or (self._calls_past_bulk >= _BULK_TURN_AFTER and not hold_bulk)
        )
        key = (self._bulk if bulk_turn else self._urgent).first()
        limits = limits_of(key)
        urgent, bulk = self._urgent.line(key), self._bulk.line(key)
        if self._urgent:
            bulk = list(islice(bulk, 0 if hold_bulk else self._bulk_batch_size))
        plan = plan_batch(bulk, urgent, limits) if bulk_turn else plan_batch(urgent, bulk, limits)
        self._leave(plan.send)
        self._leave(plan.lost)
        self._end_turn(key, plan.send, bulk_turn)
        return plan

    def _end_turn(self, key: K, sent: Iterable[W], bulk_turn: bool) -> None:
        """Moves the key behind the others in each class that was served."""
        for priority in {item.priority for item in sent}:
            (self._bulk if priority is Priority.BULK else self._urgent).to_the_end(key)
        self._calls_past_bulk = self._calls_past_bulk + 1 if self._bulk and not bulk_turn else 0

    def _leave(self, items: list[W]) -> list[W]:
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
        return self._bulk if item.priority is Priority.BULK else self._urgent


class _KeyRing(Generic[K, W]):
    """Items of one class by key, in order of arrival; the key that waits longest comes first."""

    def __init__(self) -> None:
        self._lines: OrderedDict[K, dict[W, None]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._lines)

    def first(self) -> K:
        return next(iter(self._lines))

    def line(self, key: K) -> list[W]:
        return list(self._lines.get(key, ()))

    def lines(self) -> Iterable[Iterable[W]]:
        return self._lines.values()

    def add(self, item: W) -> None:
        self._lines.setdefault(item.key, {})[item] = None

    def discard(self, item: W) -> None:
        line = self._lines[item.key]
        del line[item]
        if not line:
            del self._lines[item.key]

    def to_the_end(self, key: K) -> None:
        if key in self._lines:
            self._lines.move_to_end(key)
