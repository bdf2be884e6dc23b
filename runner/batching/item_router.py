"""What a Runner replica does for one item: its cache, the breaker, the runtime, the queue.

Failures are returned as values: they are frequent, and exceptions would cost a traceback each.

Several runtimes: an item is sent to one of the replica's own. These follow from the replica's rank,
so that every runtime has about as many replicas; with fewer replicas than runtimes a replica has
several of its own. The others are used while the breakers refuse all of its own, or when its own
failed for this item. Each runtime has its own breaker and queue for each model: a dead runtime does
not slow the others.
"""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from runner.answer_cache import AnswerCache
from runner.batching.batch_call import BatchItem, ItemResult, batch_item
from runner.batching.dispatcher import Dispatcher, settle
from runner.config.sections import CacheSection
from runner.errors import (
    BreakerOpenError,
    ModelError,
    QueueFullError,
    RuntimeTimeoutError,
    TooLateError,
)
from runner.types import (
    BatchKey,
    BreakerState,
    FallbackReason,
    ModelAnswer,
    ModelFailure,
    ModelRequest,
)


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


class BreakerView(Protocol):
    """The last known state of the breakers, without waiting."""

    def state(self, name: str) -> BreakerState:
        """The state of a model's breaker."""

    def retry_in_s(self, name: str) -> float:
        """Seconds until a call may be allowed, 0 when one may be now."""


class ItemRouter:
    """Answers items from the cache or through the dispatcher; one per Runner replica."""

    def __init__(
        self,
        dispatcher: Dispatcher[RuntimeTarget, BatchItem, ItemResult],
        runtimes: Runtimes,
        breakers: BreakerView,
        cache: CacheSection,
        clock: Callable[[], float],
        spread: Callable[[], float],
    ) -> None:
        self._dispatcher = dispatcher
        self._runtimes = runtimes
        self._breakers = breakers
        self._clock = clock
        self._cache: AnswerCache[ModelAnswer] = AnswerCache(cache, spread)
        self._under_way: defaultdict[str, set[asyncio.Future[ItemResult]]] = defaultdict(set)

    @property
    def kept_answers(self) -> int:
        """Entries in the cache, fresh or not."""
        return len(self._cache)

    async def forecast(self, request: ModelRequest) -> ModelAnswer | ModelFailure:
        """Bands for one item, or the reason why there are none."""
        arrived = self._clock()
        entry = self._cache.fresh(request.cache_key, arrived)
        if entry is not None:
            state, age_s = self._best_state(request.key), arrived - entry.stored_at
            return replace(entry.value, breaker_state=state, age_s=age_s)
        answer = await self._try_all(request, arrived)
        if isinstance(answer, ModelAnswer):
            self._cache.put(request.cache_key, answer, self._clock())
        return answer

    async def _try_all(self, request: ModelRequest, arrived: float) -> ModelAnswer | ModelFailure:
        """Tries one runtime after the other while another one may still answer in time."""
        names = self._runtimes.queue_names(request.key.model)
        left = set(range(len(names)))
        failure: ModelFailure | None = None
        while (target := self._choose(request.key, names, left)) is not None:
            try:
                result = await self._send(target, request, arrived)
            except (ModelError, BreakerOpenError, QueueFullError, TooLateError) as exc:
                state = self._breakers.state(target.queue_name)
                failure = self._failure(names, state, reason_of(exc))
                left.discard(target.runtime)
                if not may_move(exc):
                    break
            else:
                return _answer(result, arrived, self._breakers.state(target.queue_name))
        return failure or self._refusal(request.key, names)

    def _choose(self, key: BatchKey, names: Sequence[str], left: set[int]) -> RuntimeTarget | None:
        usable = [r for r in left if self._is_usable(RuntimeTarget(r, names[r], key))]
        chosen = self._runtimes.choose(usable, lambda r: len(self._under_way[names[r]]))
        return None if chosen is None else RuntimeTarget(chosen, names[chosen], key)

    def _is_usable(self, target: RuntimeTarget) -> bool:
        refused = self._breakers.retry_in_s(target.queue_name) > 0
        return not refused and not self._dispatcher.is_stuck(target)

    async def _send(
        self, target: RuntimeTarget, request: ModelRequest, arrived: float
    ) -> ItemResult:
        item = batch_item(request)
        answer = self._dispatcher.submit(
            target,
            item,
            deadline=arrived + request.budget_s,
            size_bytes=item.series.size_bytes,
            priority=request.priority,
        )
        under_way = self._under_way[target.queue_name]
        under_way.add(answer)
        try:
            return await answer
        except RuntimeTimeoutError:
            self._reroute_waiting(target)
            raise
        finally:
            under_way.discard(answer)

    def _reroute_waiting(self, target: RuntimeTarget) -> None:
        """Fails the items behind abandoned calls, so that they try another runtime."""
        if len(self._runtimes) > 1 and self._dispatcher.is_stuck(target):
            for answer in list(self._under_way[target.queue_name]):
                settle(answer, RuntimeTimeoutError("the call before it was given up"))

    def keep_late(
        self, items: Sequence[BatchItem], results: Sequence[ItemResult | Exception]
    ) -> None:
        """Caches results that came too late for their callers, for later requests."""
        for item, result in zip(items, results, strict=True):
            if isinstance(result, ItemResult):
                answer = _answer(result, result.began, self._best_state(item.request.key))
                self._cache.put(item.request.cache_key, answer, self._clock())

    def _refusal(self, key: BatchKey, names: Sequence[str]) -> ModelFailure:
        """The failure when no runtime is usable: all breakers open, or slots held by slow calls."""
        all_open = all(self._breakers.retry_in_s(name) > 0 for name in names)
        reason = FallbackReason.BREAKER_OPEN if all_open else FallbackReason.RUNTIME_TIMEOUT
        return self._failure(names, self._best_state(key), reason)

    def _failure(
        self, names: Sequence[str], state: BreakerState, reason: FallbackReason
    ) -> ModelFailure:
        return ModelFailure(reason, state, min(map(self._breakers.retry_in_s, names)))

    def _best_state(self, key: BatchKey) -> BreakerState:
        """The state of the breaker that may permit a call first."""
        names = self._runtimes.queue_names(key.model)
        return self._breakers.state(min(names, key=self._breakers.retry_in_s))


def _answer(result: ItemResult, arrived: float, state: BreakerState) -> ModelAnswer:
    return ModelAnswer(
        bands=result.bands,
        breaker_state=state,
        batch_size=result.batch_size,
        queue_ms=(result.began - arrived) * 1e3,
        runtime_ms=(result.ended - result.began) * 1e3,
        notices=result.notices,
        covariates_ignored=result.covariates_ignored,
    )


def may_move(error: Exception) -> bool:
    """Whether to try another runtime: not if series, queue or deadline caused the error."""
    if isinstance(error, ModelError):
        return error.reason is not FallbackReason.RUNTIME_REJECTED
    return isinstance(error, BreakerOpenError)


def reason_of(error: Exception) -> FallbackReason:
    """The fallback reason in the answer, for an error between the caller and the model."""
    if isinstance(error, ModelError):
        return error.reason
    return _REASONS[type(error)]


_REASONS = {
    BreakerOpenError: FallbackReason.BREAKER_OPEN,
    QueueFullError: FallbackReason.OVERLOADED,
    TooLateError: FallbackReason.DEADLINE_EXCEEDED,
}
