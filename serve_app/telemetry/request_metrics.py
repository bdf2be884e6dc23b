"""Metrics of an ingress replica for each answer: counts, times (``Server-Timing``), log lines.

Nothing here waits or raises. An answer from the cache costs about a microsecond.

Each request is logged at DEBUG; at INFO there is one line a minute per fallback reason. Lines hold
request ids, reasons and times, and no other data of callers.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass
from enum import StrEnum
from math import inf

from runner.forecast.answers import Forecast
from runner.types import FallbackReason, Source
from serve_app.telemetry import metrics
from serve_app.telemetry.recorder import Recorder
from serve_app.telemetry.request_history import RequestHistory

logger = logging.getLogger(__name__)
_STAGES = ("admission", "queue", "runtime", "post", "total")


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds by stage; None where an answer did not pass through a stage."""

    admission_ms: float | None  # reading and parsing the body
    queue_ms: float | None  # waiting for a runtime slot, in the Runner
    runtime_ms: float | None  # the runtime call
    post_ms: float  # writing the answer
    total_ms: float  # from the first byte read; only this one includes the call between replicas

    def timed(self) -> list[tuple[str, float]]:
        """Name and time of each stage that the answer passed through."""
        stages = zip(_STAGES, astuple(self), strict=True)
        return [(name, ms) for name, ms in stages if ms is not None]

    def header(self) -> bytes:
        """The value of ``Server-Timing``.

        >>> Timings(0.5, None, None, 0.125, 2.0).header()
        b'admission;dur=0.500, post;dur=0.125, total;dur=2.000'
        """
        return ", ".join(f"{name};dur={ms:.3f}" for name, ms in self.timed()).encode()


def timings_of(
    began: float, admitted: float | None, answered: float, ended: float, forecast: Forecast
) -> Timings:
    """The timings of an answer, from four times on one clock, in seconds.

    ``admitted`` is None for items of a batch, which are parsed together. A forecast from the cache
    has no queue and runtime times.
    """
    model = forecast.model if forecast.cache_age_s is None else None
    return Timings(
        admission_ms=None if admitted is None else (admitted - began) * 1e3,
        queue_ms=None if model is None else model.queue_ms,
        runtime_ms=None if model is None else model.runtime_ms,
        post_ms=(ended - answered) * 1e3,
        total_ms=(ended - began) * 1e3,
    )


class RequestLog:
    """The request log of one replica; ``every_s``: least time between two lines of one reason."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._last: dict[FallbackReason, tuple[float, int]] = {}  # when logged, and how many since

    @property
    def every_request(self) -> bool:
        """Whether each request is logged."""
        return logger.isEnabledFor(logging.DEBUG)

    def kept(self, request_id: str, total_ms: float) -> None:
        """Logs one answer from cached bytes."""
        fields = {"request_id": request_id, "source": Source.MODEL.value, "reason": None}
        logger.debug("answered", extra={**fields, "cached": True, "total_ms": round(total_ms, 3)})

    def answered(self, request_id: str, forecast: Forecast, stages: Timings) -> None:
        """Logs one answer."""
        fields = {
            "request_id": request_id,
            "source": forecast.source.value,
            "reason": forecast.fallback_reason,
            "model": forecast.resolved.key.model,
            "cached": forecast.cache_age_s is not None,
            **asdict(stages),
        }
        rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in fields.items()}
        logger.debug("answered", extra=rounded)

    def fell_back(self, now: float, reason: FallbackReason) -> None:
        """Logs the first fallback of a reason at once, then one line per interval with a count."""
        at, since = self._last.get(reason, (-inf, 0))
        if now < at + self._every_s:
            self._last[reason] = (at, since + 1)
            return
        self._last[reason] = (now, 0)
        logger.info("fell back", extra={"reason": reason.value, "count": since + 1})


class Route(StrEnum):
    """The endpoint of a forecast: a single one, or one of a batch with a longer deadline."""

    FORECAST = "forecast"
    BATCH = "batch"


class RequestMetrics:
    """Counts every answer and every refusal of the forecast routes of one replica."""

    def __init__(self, recorder: Recorder, history: RequestHistory, log: RequestLog) -> None:
        self.history = history
        self._recorder = recorder
        self._log = log
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
        if self._log.every_request:
            self._log.kept(request_id(), total_ms)
        return b"cache;desc=hit, total;dur=%.3f" % total_ms

    def answered(
        self,
        route: Route,
        now: float,
        forecast: Forecast,
        stages: Timings,
        request_id: Callable[[], str],
    ) -> None:
        """Counts a forecast at ``now``; times in a batch are not counted in the percentiles."""
        cached = forecast.cache_age_s is not None
        total_ms = stages.total_ms if route is Route.FORECAST else None
        self.history.answered(now, total_ms, forecast.fallback_reason, cached=cached)
        self._recorder.counter(metrics.REQUESTS, route, "answered", forecast.source).inc()
        self._recorder.counter(metrics.CACHE, _cache_result(forecast)).inc()
        for name, ms in stages.timed():
            self._recorder.histogram(metrics.LATENCY, route, name).observe(ms / 1e3)
        if not cached:
            for kind in forecast.bands.corrections:
                self._recorder.counter(metrics.CORRECTIONS, kind, forecast.source).inc()
        if forecast.fallback_reason is not None:
            self._recorder.counter(metrics.FALLBACKS, forecast.fallback_reason).inc()
            self._log.fell_back(now, forecast.fallback_reason)
        if self._log.every_request:
            self._log.answered(request_id(), forecast, stages)

    def refused(self, route: Route, outcome: str) -> None:
        """Counts a request without a forecast: refused, overloaded or failed."""
        self._recorder.counter(metrics.REQUESTS, route, outcome, "none").inc()

    def update_gauges_with(self, update: Callable[[Recorder], None]) -> None:
        """Sets the function that updates the gauges of this replica."""
        self._update = update

    def update_gauges(self) -> None:
        """Updates the gauges; called once a second, in the replica's event loop."""
        self._update(self._recorder)


def _cache_result(forecast: Forecast) -> str:
    if forecast.cache_stale:
        return "stale"
    return "miss" if forecast.cache_age_s is None else "hit"
