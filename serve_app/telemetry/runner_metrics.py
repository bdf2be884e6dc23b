"""Metrics of a Runner replica: each runtime call; once a second its queues and breakers."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence

from runner.batching.batch_call import ItemResult
from runner.batching.dispatcher import BatchResult, QueueStats
from runner.batching.item_router import reason_of
from runner.breaker.shared import BreakerSnapshots
from runner.types import BatchKey, BreakerState, ModelRequest
from serve_app.telemetry import metrics
from serve_app.telemetry.recorder import Recorder

Call = Callable[[BatchKey, Sequence[ModelRequest]], Awaitable[BatchResult[ItemResult]]]


def metered(call: Call, recorder: Recorder, clock: Callable[[], float]) -> Call:
    """Runtime calls that are counted and timed; ``clock`` is monotonic.

    A call that the breaker refuses raises and is not counted.
    """

    async def counted(key: BatchKey, requests: Sequence[ModelRequest]) -> BatchResult[ItemResult]:
        began = clock()
        outcome = await call(key, requests)
        recorder.histogram(metrics.RUNTIME, key.model).observe(clock() - began)
        recorder.histogram(metrics.BATCH_SIZE, key.model).observe(len(requests))
        recorder.counter(metrics.RUNTIME_CALLS, key.model, result_of(outcome)).inc()
        return outcome

    return counted


def result_of(outcome: BatchResult[ItemResult]) -> str:
    """``ok`` when any item has a result, else the fallback reason of the first item."""
    failures = [r for r in outcome.results if not isinstance(r, ItemResult)]
    return "ok" if len(failures) < len(outcome.results) else reason_of(failures[0])


class QueueGauges:
    """The gauges of one Runner replica: queues, breakers, cache and tasks."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._states: dict[str, BreakerState] = {}

    def update(
        self, queues: Mapping[Hashable, QueueStats], breakers: BreakerSnapshots, kept: int
    ) -> None:
        """Updates the gauges; called once a second, in the replica's event loop."""
        self._recorder.gauge(metrics.TASKS).set(len(asyncio.all_tasks()))
        self._recorder.gauge(metrics.KEPT, "runner").set(kept)
        for queue, stats in queues.items():
            self._recorder.gauge(metrics.QUEUED, str(queue)).set(stats.queued)
            self._recorder.gauge(metrics.QUEUE_AGE, str(queue)).set(stats.oldest_age_s)
        for model, breaker in breakers.items():
            self._breaker(model, BreakerState(breaker["state"]))

    def _breaker(self, model: str, state: BreakerState) -> None:
        for each in BreakerState:
            self._recorder.gauge(metrics.BREAKER, model, each).set(float(each is state))
        if self._states.get(model, BreakerState.CLOSED) is not state:
            self._recorder.counter(metrics.TRANSITIONS, model, state).inc()
        self._states[model] = state
