"""What a Runner replica does for one item: its cache, the breaker, the queue, and a plain answer.

Failures leave as values: each one is ordinary here, and an exception would cost a trace a request.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from runner.batch_call import Served
from runner.cache import AnswerCache
from runner.dispatcher import Dispatcher
from runner.errors import BreakerOpenError, ModelError, QueueFullError, TooLateError
from runner.sections import CacheSection
from runner.types import (
    BatchKey,
    BreakerState,
    FallbackReason,
    ModelAnswer,
    ModelFailure,
    ModelRequest,
)

BYTES_PER_POINT = 48  # a time stamp of 23 and a number of up to 22 characters, with commas


class BreakerView(Protocol):
    """What is known of the breakers, without waiting."""

    def state(self, name: str) -> BreakerState:
        """The state of a model's breaker."""
        ...

    def retry_in_s(self, name: str) -> float:
        """How long it is pointless to call, 0 when it is not."""
        ...


class ModelService:
    """Answers items from the cache or through the dispatcher; one per Runner replica."""

    def __init__(
        self,
        dispatcher: Dispatcher[BatchKey, ModelRequest, Served],
        breakers: BreakerView,
        cache: CacheSection,
        clock: Callable[[], float],
        spread: Callable[[], float],
    ) -> None:
        self._dispatcher = dispatcher
        self._breakers = breakers
        self._clock = clock
        self._cache: AnswerCache[ModelAnswer] = AnswerCache(cache, spread)

    async def forecast(self, request: ModelRequest) -> ModelAnswer | ModelFailure:
        """Bands for one item, or why there are none."""
        arrived = self._clock()
        entry = self._cache.fresh(request.cache_key, arrived)
        if entry is not None:
            return _aged(entry.value, arrived - entry.stored_at, self._state(request))
        retry_in_s = self._breakers.retry_in_s(request.key.model)
        if retry_in_s > 0:
            return self._failure(request, FallbackReason.BREAKER_OPEN, retry_in_s)
        if self._dispatcher.is_stuck(request.key):
            return self._failure(request, FallbackReason.RUNTIME_TIMEOUT, 0.0)
        try:
            served = await self._dispatcher.submit(
                request.key,
                request,
                deadline=arrived + request.budget_s,
                size_bytes=size_bytes(request),
                priority=request.priority,
            )
        except (ModelError, BreakerOpenError, QueueFullError, TooLateError) as exc:
            return self._failure(
                request, reason_of(exc), self._breakers.retry_in_s(request.key.model)
            )
        answer = self._answer(request, served, arrived)
        self._cache.put(request.cache_key, answer, self._clock())
        return answer

    def keep_late(
        self, requests: Sequence[ModelRequest], results: Sequence[Served | Exception]
    ) -> None:
        """Puts what came too late for its callers into the cache for the next ones."""
        for request, result in zip(requests, results, strict=True):
            if isinstance(result, Served):
                answer = self._answer(request, result, result.began)
                self._cache.put(request.cache_key, answer, self._clock())

    def _answer(self, request: ModelRequest, served: Served, arrived: float) -> ModelAnswer:
        return ModelAnswer(
            bands=served.bands,
            breaker_state=self._state(request),
            batch_size=served.batch_size,
            queue_ms=(served.began - arrived) * 1e3,
            runtime_ms=(served.ended - served.began) * 1e3,
        )

    def _failure(
        self, request: ModelRequest, reason: FallbackReason, retry_in_s: float
    ) -> ModelFailure:
        return ModelFailure(reason, self._state(request), retry_in_s)

    def _state(self, request: ModelRequest) -> BreakerState:
        return self._breakers.state(request.key.model)


def reason_of(error: Exception) -> FallbackReason:
    """The fallback reason that a caller reads for an error on the way to the model."""
    if isinstance(error, ModelError):
        return error.reason
    return _REASONS[type(error)]


_REASONS = {
    BreakerOpenError: FallbackReason.BREAKER_OPEN,
    QueueFullError: FallbackReason.OVERLOADED,
    TooLateError: FallbackReason.DEADLINE_EXCEEDED,
}


def size_bytes(request: ModelRequest) -> int:
    """An upper estimate of what the item adds to a runtime call's body."""
    points = request.y_prob.size * (1 + len(request.x_past))
    ahead = request.key.horizon_steps * len(request.x_future)
    return BYTES_PER_POINT * (points + ahead) + 200


def _aged(answer: ModelAnswer, age_s: float, state: BreakerState) -> ModelAnswer:
    return ModelAnswer(
        answer.bands, state, answer.batch_size, answer.queue_ms, answer.runtime_ms, age_s
    )
