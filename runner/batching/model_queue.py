"""A lane as the dispatcher keeps it: who waits, which calls are under way, when the next may leave.

A runtime that has answered would stand idle while its answer is unpacked and the next batch packed
and sent. So a lane may have one call more under way than it has slots, if it leaves only a moment
before a running one is expected to end: it *leads*, waits in the runtime for that moment, and its
time begins when the one before it is answered.

    slot   | call 1 .............. | call 2 ............... | call 3
    leaves ^                  ^ lead                   ^ lead
"""

import asyncio
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from math import inf
from typing import Generic, TypeVar

from runner.batching.admission import AdmissionControl
from runner.batching.batch_result import BatchResult
from runner.batching.queue import ItemQueue, WaitingItem
from runner.config.sections import BatchingSection

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
R = TypeVar("R")

_SIZES_KEPT = 64


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One lane at this moment, for metrics and the status page.

    Attributes:
        queued: items in line, of which ``queued_bulk`` are bulk.
        oldest_age_s: how long the first of them has waited, 0 when nobody waits.
        in_flight: calls under way, lingering ones included.
        batch_sizes: sizes of the latest calls, oldest first.
        turned_away: interactive items that found the line too long within ``batching.max_wait_s``.
    """

    queued: int
    queued_bulk: int
    oldest_age_s: float
    in_flight: int
    batch_sizes: tuple[int, ...]
    turned_away: int


@dataclass(slots=True, eq=False)
class QueuedItem(WaitingItem[K], Generic[K, T, R]):
    """An item in line, and the future that its caller waits for."""

    item: T
    answer: asyncio.Future[R]


@dataclass(slots=True, eq=False)
class RuntimeCall(Generic[K, T, R]):
    """A call that holds a slot, or leads.

    Attributes:
        expected_s: how long it was expected to take when it left, 0 when nobody knew.
        runs_from: when the runtime turned to it, as far as we know; inf while it leads.
    """

    lane: "ModelQueue[K, T, R]"
    batch: list[QueuedItem[K, T, R]]
    started_at: float
    expected_s: float
    task: asyncio.Task[BatchResult[R]]
    runs_from: float = inf
    lease: asyncio.TimerHandle = field(init=False)
    lease_ended: bool = False
    abandoned: bool = False

    def next_from(self, lead_s: float) -> float:
        """When the next call may leave; never, where nothing is known of this one's end."""
        if not self.expected_s:
            return inf
        return self.runs_from + self.expected_s - min(lead_s, self.expected_s / 2)

    def took_s(self, now: float) -> float:
        """How long the runtime was at it."""
        return now - (self.started_at if self.runs_from == inf else self.runs_from)


@dataclass(slots=True, eq=False)
class ModelQueue(Generic[K, T, R]):
    """One runtime's model: its line and its calls, the oldest first."""

    queue: ItemQueue[K, QueuedItem[K, T, R]]
    admission: AdmissionControl
    settings: BatchingSection
    calls: list[RuntimeCall[K, T, R]] = field(default_factory=list)
    woken: bool = False
    timer: asyncio.TimerHandle | None = None
    timer_due: float = inf
    lead: asyncio.TimerHandle | None = None
    batch_sizes: deque[int] = field(default_factory=lambda: deque(maxlen=_SIZES_KEPT))

    @property
    def has_slot(self) -> bool:
        """Whether a slot is free."""
        return len(self.calls) < self.settings.slots_per_model

    @property
    def is_stuck(self) -> bool:
        """Whether calls that were given up hold every slot."""
        return sum(call.abandoned for call in self.calls) >= self.settings.slots_per_model

    def may_start_call(self, now: float) -> bool:
        """Whether a call may leave: into a free slot, or to lead.

        Bulk items do not lead while others are expected, who would have to wait for two calls.
        """
        if self.has_slot:
            return True
        is_bulk = len(self.queue) == self.queue.bulk_count
        return self.next_prefetch() <= now and not (is_bulk and self.admission.expects_company(now))

    def next_prefetch(self) -> float:
        """When a call may leave to lead; inf where none may."""
        slots, lead_s = self.settings.slots_per_model, self.settings.lead_s
        if not lead_s or len(self.calls) != slots or any(call.abandoned for call in self.calls):
            return inf
        return min(call.next_from(lead_s) for call in self.calls)

    def free_from(self, now: float) -> float:
        """When the runtime is expected to turn to a call that leaves now."""
        if self.has_slot:
            return now
        return max(now, min(call.runs_from + call.expected_s for call in self.calls))

    def begin(self, call: RuntimeCall[K, T, R]) -> None:
        """Takes a call in that has just left."""
        call.runs_from = call.started_at if self.has_slot else inf
        self.calls.append(call)
        self.batch_sizes.append(len(call.batch))

    def end(self, call: RuntimeCall[K, T, R], now: float) -> None:
        """Lets go of a call; one that led has its turn now."""
        self.calls.remove(call)
        for running in self.calls[: self.settings.slots_per_model]:
            running.runs_from = min(running.runs_from, now)

    def stop_timer(self) -> None:
        """Forgets the wake-up for the earliest deadline."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer, self.timer_due = None, inf

    def stop_prefetch(self) -> None:
        """Forgets the wake-up for the next call's lead."""
        if self.lead is not None:
            self.lead.cancel()
        self.lead = None

    def stats(self, now: float) -> QueueStats:
        """See `QueueStats`."""
        oldest = self.queue.oldest_arrival()
        return QueueStats(
            queued=len(self.queue),
            queued_bulk=self.queue.bulk_count,
            oldest_age_s=0.0 if oldest is None else now - oldest,
            in_flight=len(self.calls),
            batch_sizes=tuple(self.batch_sizes),
            turned_away=self.admission.turned_away(now),
        )
