"""What is counted and timed: each answer of an ingress, each runtime call of a Runner.

Nothing here waits or raises. An answer from the cache costs about a microsecond.

Each request is logged at DEBUG; at INFO there is one line a minute per fallback reason. Lines hold
request ids, reasons and times, and no other data of callers.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from enum import StrEnum
from math import inf

from runner.batching.batch_call import BatchItem, ItemResult
from runner.batching.dispatcher import BatchResult, QueueStats
from runner.batching.item_router import reason_of
from runner.breaker.state_machine import BreakerSnapshots
from runner.forecast.answers import Forecast
from runner.types import (
    BatchKey,
    BreakerState,
    FallbackReason,
    RuntimeUsage,
    Source,
)
from serve_app.telemetry import metrics
from serve_app.telemetry.recorder import Recorder
from serve_app.telemetry.request_history import RequestHistory

logger = logging.getLogger(__name__)

Call = Callable[[BatchKey, Sequence[BatchItem]], Awaitable[BatchResult[ItemResult]]]
Timings = Mapping[str, float]  # milliseconds by stage, of the stages that an answer passed through


def timings_of(
    began: float, admitted: float | None, answered: float, ended: float, forecast: Forecast
) -> Timings:
    """The timings of an answer, from four times on one clock, in seconds.

    ``admitted`` is None for items of a batch, which are parsed together. A forecast from the cache
    has no queue and runtime times. Only the total includes the call between replicas.
    """
    timings = {} if admitted is None else {"admission": (admitted - began) * 1e3}
    if forecast.model is not None and forecast.cache_age_s is None:
        timings["queue"] = forecast.model.queue_ms
        timings["runtime"] = forecast.model.runtime_ms
    return timings | {"post": (ended - answered) * 1e3, "total": (ended - began) * 1e3}


def timing_header(timings: Timings) -> bytes:
    """The value of ``Server-Timing``.

    >>> timing_header({"admission": 0.5, "post": 0.125, "total": 2.0})
    b'admission;dur=0.500, post;dur=0.125, total;dur=2.000'
    """
    return ", ".join(f"{stage};dur={ms:.3f}" for stage, ms in timings.items()).encode()


class Route(StrEnum):
    """The endpoint of a forecast: a single one, or one of a batch with a longer deadline."""

    FORECAST = "forecast"
    BATCH = "batch"


class RequestMetrics:
    """Counts every answer and every refusal of the forecast routes of one replica.

    ``log_every_s`` is the least time between two log lines of one fallback reason.
    """

    def __init__(self, recorder: Recorder, history: RequestHistory, log_every_s: float) -> None:
        self.history = history
        self._recorder = recorder
        self._log_every_s = log_every_s
        self._logged: dict[FallbackReason, tuple[float, int]] = {}  # when, and how many since then
        self._update: Callable[[Recorder], None] = lambda recorder: None
        self._from_model = recorder.counter(
            metrics.REQUESTS, Route.FORECAST, "answered", Source.MODEL
        )
        self._hits = recorder.counter(metrics.CACHE, "hit")
        self._total = recorder.histogram(metrics.LATENCY, Route.FORECAST, "total")

    def kept(self, now: float, total_ms: float, request_id: Callable[[], str]) -> bytes:
        """Counts an answer from cached bytes at ``now``; returns its ``Server-Timing``."""
        self.history.answered(now, total_ms, None, cached=True)
        self._from_model.inc()
        self._hits.inc()
        self._total.observe(total_ms / 1e3)
        if logger.isEnabledFor(logging.DEBUG):
            fields = {"source": Source.MODEL.value, "reason": None, "cached": True}
            _log_answer(request_id(), {"total": total_ms}, fields)
        return b"cache;desc=hit, total;dur=%.3f" % total_ms

    def answered(
        self,
        route: Route,
        now: float,
        forecast: Forecast,
        timings: Timings,
        request_id: Callable[[], str],
    ) -> None:
        """Counts a forecast at ``now``; times in a batch are not counted in the percentiles."""
        if not forecast.resolved.request.observe:
            self._recorder.counter(metrics.REQUESTS, route, "unobserved", forecast.source).inc()
            return
        cached, reason = forecast.cache_age_s is not None, forecast.fallback_reason
        total_ms = timings["total"] if route is Route.FORECAST else None
        self.history.answered(now, total_ms, reason, cached=cached)
        self._recorder.counter(metrics.REQUESTS, route, "answered", forecast.source).inc()
        cache_result = "stale" if forecast.cache_stale else "hit" if cached else "miss"
        self._recorder.counter(metrics.CACHE, cache_result).inc()
        for stage, ms in timings.items():
            self._recorder.histogram(metrics.LATENCY, route, stage).observe(ms / 1e3)
        if not cached:
            for kind in forecast.bands.corrections:
                self._recorder.counter(metrics.CORRECTIONS, kind, forecast.source).inc()
        if reason is not None:
            self._recorder.counter(metrics.FALLBACKS, reason).inc()
            self._log_fallback(now, reason)
        if logger.isEnabledFor(logging.DEBUG):
            fields = {"source": forecast.source.value, "reason": reason, "cached": cached}
            model = forecast.resolved.key.model
            _log_answer(request_id(), timings, {**fields, "model": model})

    def refused(self, route: Route, outcome: str) -> None:
        """Counts a request without a forecast: refused, overloaded or failed."""
        self._recorder.counter(metrics.REQUESTS, route, outcome, "none").inc()

    def update_gauges_with(self, update: Callable[[Recorder], None]) -> None:
        """Sets the function that updates the gauges of this replica."""
        self._update = update

    def update_gauges(self) -> None:
        """Updates the gauges; called once a second, in the replica's event loop."""
        self._update(self._recorder)

    def _log_fallback(self, now: float, reason: FallbackReason) -> None:
        """Logs the first fallback of a reason at once, then one line per interval with a count."""
        at, since = self._logged.get(reason, (-inf, 0))
        if now < at + self._log_every_s:
            self._logged[reason] = (at, since + 1)
            return
        self._logged[reason] = (now, 0)
        logger.info("fell back", extra={"reason": reason.value, "count": since + 1})


def _log_answer(request_id: str, timings: Timings, fields: Mapping[str, object]) -> None:
    times = {f"{stage}_ms": round(ms, 3) for stage, ms in timings.items()}
    logger.debug("answered", extra={"request_id": request_id, **fields, **times})


def metered(call: Call, recorder: Recorder, clock: Callable[[], float]) -> Call:
    """Runtime calls that are counted and timed; ``clock`` is monotonic.

    A call that the breaker refuses raises and is not counted.
    """

    async def counted(key: BatchKey, items: Sequence[BatchItem]) -> BatchResult[ItemResult]:
        began = clock()
        outcome = await call(key, items)
        recorder.histogram(metrics.RUNTIME, key.model).observe(clock() - began)
        recorder.histogram(metrics.BATCH_SIZE, key.model).observe(len(items))
        recorder.counter(metrics.RUNTIME_CALLS, key.model, result_of(outcome)).inc()
        return outcome

    return counted


def usage_metrics(recorder: Recorder) -> Callable[[str, RuntimeUsage], None]:
    """Records what runtimes say of each call."""

    def record(model: str, usage: RuntimeUsage) -> None:
        if usage.inference_ms is not None:
            recorder.histogram(metrics.RUNTIME_INFERENCE, model).observe(usage.inference_ms / 1e3)
        if usage.peak_memory_mb is not None:
            recorder.gauge(metrics.RUNTIME_MEMORY, model).set(usage.peak_memory_mb * 2**20)

    return record


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
