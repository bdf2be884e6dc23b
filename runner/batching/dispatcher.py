"""Items wait in queues; a batch is chosen when a slot is free, not before (late binding).

Items of one key may share a call. Keys of one model share a `ModelQueue` and its slots, because the
runtime runs one call of a model family at a time. ``queue`` and ``batch_policy`` decide which items
are sent next; this module has the effects: futures, calls, timers.

    submit --> model queue --> call --> answers, slot free --> next batch
                   |             |
                   |             `--> abandoned after the time limit: the runtime still computes, so
                   |                  the slot stays taken until the call or its lease ends
                   `--> queue full or too long, or deadline passed: an error at once

An item costs one future and one queue entry; there is no task and no timer per item. No call is
sent before a slot is free, although the runtime is idle while answers are decoded: tollama would
work on both calls at once, and both take longer (docs/decisions/late-binding.md).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, Generic, TypeVar

from runner.batching.batch_policy import (
    AdmissionControl,
    BatchLimits,
    ReturningCallers,
    capacity_of,
)
from runner.batching.latency_model import LatencyModel
from runner.batching.queue import ItemQueue, WaitingItem
from runner.config.sections import BatchingSection
from runner.errors import (
    BadOutputError,
    QueueFullError,
    RuntimeFailedError,
    TooLateError,
    TsfmError,
)
from runner.types import Priority

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
R = TypeVar("R")

_SIZES_KEPT = 64


@dataclass(frozen=True, slots=True)
class BatchResult(Generic[R]):
    """One result or error per item of a call, in order.

    ``abandoned`` is set when the call exceeded its time limit while the runtime still computes: it
    is done when the runtime is. The slot stays taken until then, or until the lease ends.
    """

    results: Sequence[R | Exception]
    abandoned: asyncio.Future[None] | None = None


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One model queue at this moment, for metrics and the status page."""

    queued: int  # of which queued_bulk are bulk
    queued_bulk: int
    oldest_age_s: float  # how long the oldest item has waited, 0 when the queue is empty
    in_flight: int  # calls, abandoned ones included
    batch_sizes: tuple[int, ...]  # of the latest calls, oldest first
    turned_away: int  # interactive items refused within the last batching.max_wait_s


@dataclass(slots=True, eq=False)
class QueuedItem(WaitingItem[K], Generic[K, T, R]):
    """An item in a queue, and the future that its caller waits for."""

    item: T
    answer: asyncio.Future[R]


@dataclass(slots=True, eq=False)
class RuntimeCall(Generic[K, T, R]):
    """A call that holds a slot."""

    queue: "ModelQueue[K, T, R]"
    batch: list[QueuedItem[K, T, R]]
    started_at: float
    task: asyncio.Future[BatchResult[R]]
    lease: asyncio.TimerHandle = field(init=False)
    lease_ended: bool = False
    abandoned: bool = False


@dataclass(slots=True, eq=False)
class ModelQueue(Generic[K, T, R]):
    """The queue of one model at one runtime: waiting items and calls, both oldest first."""

    waiting: ItemQueue[K, QueuedItem[K, T, R]]
    admission: AdmissionControl
    settings: BatchingSection
    calls: list[RuntimeCall[K, T, R]] = field(default_factory=list)
    woken: bool = False
    timer: asyncio.TimerHandle | None = None
    timer_due: float = inf
    returning: ReturningCallers = field(default_factory=ReturningCallers)
    hold_timer: asyncio.TimerHandle | None = None
    batch_sizes: deque[int] = field(default_factory=lambda: deque(maxlen=_SIZES_KEPT))

    @property
    def has_slot(self) -> bool:
        """Whether a call may start."""
        return len(self.calls) < self.settings.slots_per_model

    @property
    def is_stuck(self) -> bool:
        """Whether abandoned calls hold every slot."""
        return sum(call.abandoned for call in self.calls) >= self.settings.slots_per_model

    def stop_timer(self) -> None:
        """Cancels the timer of the earliest deadline."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer, self.timer_due = None, inf

    def stop_hold(self) -> None:
        """Cancels the timer that ends the wait of a free slot."""
        if self.hold_timer is not None:
            self.hold_timer.cancel()
        self.hold_timer = None

    def stats(self, now: float) -> QueueStats:
        """See `QueueStats`."""
        oldest = self.waiting.oldest_arrival()
        return QueueStats(
            queued=len(self.waiting),
            queued_bulk=self.waiting.bulk_count,
            oldest_age_s=0.0 if oldest is None else now - oldest,
            in_flight=len(self.calls),
            batch_sizes=tuple(self.batch_sizes),
            turned_away=self.admission.turned_away(now),
        )


# If a next call starts, answers are handed on later, so that it can leave first: 128 of them keep
# the event loop busy for 3 to 5 ms, in which the runtime would have nothing to do.
_HAND_ON_AFTER_S = 0.001
_TIMER_GRAIN_S = 0.001  # deadlines closer together than this share a timer


class Dispatcher(Generic[K, T, R]):
    """Collects items; calls ``call`` with a batch of one key when its queue has a free slot."""

    def __init__(
        self,
        call: Callable[[K, Sequence[T]], Awaitable[BatchResult[R]]],
        *,
        queue_of: Callable[[K], Hashable],
        batch_limit: Callable[[K], int],
        max_batch_bytes: int,
        settings: BatchingSection,
        lease_s: float,
        clock: Callable[[], float],
    ) -> None:
        """Needs no running event loop.

        Args:
            call: makes one runtime call; limits its own time.
            queue_of: the name of the model queue of a key; the number of names is bounded.
            batch_limit: series that the model of a key accepts in one call, >= 1.
            max_batch_bytes: bound on the sum of ``size_bytes`` in a call.
            settings: slots, queue length and call lengths.
            lease_s: how long a call, abandoned or not, may hold its slot.
            clock: monotonic seconds, the clock of all deadlines.
        """
        self._call = call
        self._queue_of = queue_of
        self._batch_limit = batch_limit
        self._max_batch_bytes = max_batch_bytes
        self._settings = settings
        self._lease_s = lease_s
        self._clock = clock
        self._latency_model: LatencyModel[K] = LatencyModel(settings.estimate_forgets_after_s)
        self._queues: dict[Hashable, ModelQueue[K, T, R]] = {}
        self._closed = False

    def submit(
        self, key: K, item: T, *, deadline: float, size_bytes: int, priority: Priority
    ) -> asyncio.Future[R]:
        """A future of the result or error; cancel it to remove the item.

        Its errors are those of the call, ``TooLateError`` (the deadline cannot be met any more) and
        ``QueueFullError`` (a bulk item was removed for an interactive one).

        Raises:
            QueueFullError: the queue is full or closed, or an interactive item would wait too long.
        """
        if self._closed:
            raise QueueFullError
        queue, now = self._queue(key), self._clock()
        if priority is Priority.INTERACTIVE and not self._admits(queue, key, now):
            raise QueueFullError
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        entry = QueuedItem(key, deadline, size_bytes, priority, now, item, answer)
        evicted = queue.waiting.put(entry)
        if evicted is not None:
            settle(evicted.answer, QueueFullError())
        answer.add_done_callback(lambda _: queue.waiting.remove(entry))
        if queue.has_slot:
            self._wake(queue)
        elif deadline < queue.timer_due:
            self._schedule_expiry(queue)
        return answer

    def _admits(self, queue: ModelQueue[K, T, R], key: K, now: float) -> bool:
        queue.admission.on_interactive_arrival(now)
        queue.returning.on_arrival(now)
        ahead = 0 if queue.has_slot else len(queue.waiting) - queue.waiting.bulk_count
        running = sum(len(call.batch) for call in queue.calls)
        limits = self._limits(queue, now, key)
        return queue.admission.admits(ahead, running, limits, queue.returning.share)

    def is_stuck(self, key: K) -> bool:
        """Whether abandoned calls hold every slot for ``key``; when they end is not known."""
        queue = self._queues.get(self._queue_of(key))
        return queue is not None and queue.is_stuck

    def stats(self) -> Mapping[Hashable, QueueStats]:
        """The state of every queue that has been used, by name."""
        now = self._clock()
        return {name: queue.stats(now) for name, queue in self._queues.items()}

    async def aclose(self) -> None:
        """Refuses queued and new items; waits for running calls, but not for abandoned ones."""
        self._closed = True
        for queue in self._queues.values():
            for entry in queue.waiting.clear():
                settle(entry.answer, QueueFullError())
            queue.stop_timer()
            queue.stop_hold()
        calls = [call for queue in self._queues.values() for call in queue.calls]
        running = [call.task for call in calls if not call.task.done()]
        if running:
            await asyncio.wait(running)
        for call in calls:
            self._release(call, observed=False)

    def _queue(self, key: K) -> ModelQueue[K, T, R]:
        name = self._queue_of(key)
        queue = self._queues.get(name)
        if queue is None:
            settings = self._settings
            waiting: ItemQueue[K, QueuedItem[K, T, R]] = ItemQueue(settings.max_queued_items)
            queue = self._queues[name] = ModelQueue(waiting, AdmissionControl(settings), settings)
        return queue

    def _wake(self, queue: ModelQueue[K, T, R]) -> None:
        """Starts calls in the next turn of the loop, so that items of this turn share a call."""
        if not queue.woken:
            queue.woken = True
            asyncio.get_running_loop().call_soon(self._start_calls, queue)

    def _start_calls(self, queue: ModelQueue[K, T, R]) -> None:
        queue.woken = False
        self._expire(queue)
        while queue.waiting and queue.has_slot:
            now = self._clock()
            if self._holds_slot(queue, now):
                break
            limits_of = partial(self._limits, queue, now)
            plan = queue.waiting.cut(limits_of, hold_bulk=queue.admission.is_overloaded(now))
            for entry in plan.lost:
                settle(entry.answer, TooLateError())
            batch = [entry for entry in plan.send if not entry.answer.done()]
            if batch:
                self._start_call(queue, batch)
        self._schedule_expiry(queue)

    def _holds_slot(self, queue: ModelQueue[K, T, R], now: float) -> bool:
        """Whether a free slot waits for returning callers; a timer ends the wait."""
        key = queue.waiting.only_key()
        if key is None:
            return False
        limits, waiting = self._limits(queue, now, key), len(queue.waiting)
        most, latency = capacity_of(limits), limits.latency
        until = queue.returning.hold_until(now, waiting, most - waiting, latency.seconds(waiting))
        is_late = until + latency.seconds(most) > queue.waiting.next_deadline()
        if until - now <= _TIMER_GRAIN_S or is_late:
            return False
        if queue.hold_timer is None:
            delay_s, loop = until - now, asyncio.get_running_loop()
            queue.hold_timer = loop.call_later(delay_s, self._end_hold, queue)
        return True

    def _end_hold(self, queue: ModelQueue[K, T, R]) -> None:
        """Starts calls, unless the timer ended early: then `_holds_slot` sets a new one."""
        queue.stop_hold()
        self._wake(queue)

    def _limits(self, queue: ModelQueue[K, T, R], now: float, key: K) -> BatchLimits:
        latency = self._latency_model.at(key, now)
        max_items = min(self._settings.max_batch_size, self._batch_limit(key))
        has_company = queue.waiting.has_interactive or queue.admission.expects_interactive(now)
        return BatchLimits(
            max_items=max_items,
            max_bulk=queue.admission.most_bulk(latency, max_items) if has_company else max_items,
            max_bytes=self._max_batch_bytes,
            max_call_s=queue.admission.longest_call_s(latency),
            latency=latency,
            now=now,
        )

    def _start_call(self, queue: ModelQueue[K, T, R], batch: list[QueuedItem[K, T, R]]) -> None:
        now, key = self._clock(), batch[0].key
        expected_s = self._latency_model.at(key, now).seconds(len(batch))
        queue.admission.began(expected_s, now)
        queue.returning.on_call(now, expected_s)
        queue.stop_hold()
        task = asyncio.ensure_future(self._call(key, [entry.item for entry in batch]))
        call = RuntimeCall(queue, batch, now, task)
        call.lease = asyncio.get_running_loop().call_later(self._lease_s, self._end_lease, call)
        queue.calls.append(call)
        queue.batch_sizes.append(len(batch))
        task.add_done_callback(partial(self._answer, call))

    def _answer(self, call: RuntimeCall[K, T, R], task: asyncio.Future[BatchResult[R]]) -> None:
        outcome = _result_of_task(task, len(call.batch))
        now, callers = self._clock(), sum(e.priority is Priority.INTERACTIVE for e in call.batch)
        call.queue.returning.on_answers(now, callers, now - call.started_at)
        if outcome.abandoned is None or call.lease_ended:
            answered = any(not isinstance(result, BaseException) for result in outcome.results)
            self._release(call, observed=answered)
        else:
            call.abandoned = True
            outcome.abandoned.add_done_callback(partial(self._end_abandoned, call))
        running = len(call.queue.calls)
        try:
            self._start_calls(call.queue)
        finally:
            hand_on = partial(_settle_all, call.batch, outcome.results)
            if len(call.queue.calls) > running:
                asyncio.get_running_loop().call_later(_HAND_ON_AFTER_S, hand_on)
            else:
                hand_on()

    def _end_abandoned(self, call: RuntimeCall[K, T, R], abandoned: asyncio.Future[None]) -> None:
        self._release(call, observed=_fault_of(abandoned) is None)

    def _end_lease(self, call: RuntimeCall[K, T, R]) -> None:
        call.lease_ended = True
        if call.task.done():
            self._release(call, observed=False)
        else:
            call.task.cancel()

    def _release(self, call: RuntimeCall[K, T, R], *, observed: bool) -> None:
        """Frees the slot once; ``observed`` says whether the latency model learns its time."""
        queue, now = call.queue, self._clock()
        if call not in queue.calls:
            return
        call.lease.cancel()
        if observed:
            took_s = now - call.started_at
            self._latency_model.observe(call.batch[0].key, len(call.batch), took_s, now)
        queue.calls.remove(call)
        self._wake(queue)

    def _schedule_expiry(self, queue: ModelQueue[K, T, R]) -> None:
        """Sets the one deadline timer of the queue to the earliest deadline of its items."""
        due = queue.waiting.next_deadline()
        if due >= queue.timer_due:
            return
        queue.stop_timer()
        delay_s = max(due - self._clock(), _TIMER_GRAIN_S)
        queue.timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer, queue)
        queue.timer_due = due

    def _on_timer(self, queue: ModelQueue[K, T, R]) -> None:
        queue.stop_timer()
        self._expire(queue)
        self._schedule_expiry(queue)

    def _expire(self, queue: ModelQueue[K, T, R]) -> None:
        for entry in queue.waiting.expire(self._clock()):
            settle(entry.answer, TooLateError())


def _result_of_task(task: asyncio.Future[BatchResult[R]], count: int) -> BatchResult[R]:
    """The result of a call with ``count`` items; its fault becomes an error for each of them."""
    fault = _fault_of(task)
    if fault is None:
        result = task.result()
        if len(result.results) == count:
            return result
        fault = BadOutputError(f"{len(result.results)} results for {count} items")
    return BatchResult([_own_error(fault) for _ in range(count)])


def _fault_of(ended: asyncio.Future[Any]) -> BaseException | None:
    """The exception of a task or future that has ended, cancellation included; else None."""
    return asyncio.CancelledError() if ended.cancelled() else ended.exception()


def _settle_all(batch: Sequence[QueuedItem[K, T, R]], results: Sequence[R | Exception]) -> None:
    for entry, result in zip(batch, results, strict=True):
        settle(entry.answer, result)


def settle(answer: asyncio.Future[R], result: R | BaseException) -> None:
    """Sets the result or error of a future that is neither done nor cancelled."""
    if answer.done():
        return
    if not isinstance(result, BaseException):
        answer.set_result(result)
    elif isinstance(result, Exception) and not isinstance(result, StopIteration):
        answer.set_exception(result)
    else:  # a future refuses StopIteration; a cancelled call must not cancel the caller
        answer.set_exception(_own_error(result))


def _own_error(fault: BaseException) -> Exception:
    """A separate error per item: a shared object would collect the tracebacks of all callers."""
    if isinstance(fault, TsfmError):
        error: Exception = copy(fault)
    else:
        error = RuntimeFailedError(f"the call ended with {type(fault).__name__}")
    error.__cause__ = fault
    return error
