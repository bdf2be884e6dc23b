"""What an ingress replica writes down about each answer: counts, times, log lines.

The rule of the file: nothing here waits, nothing here raises, and an answer from the cache pays
about a microsecond.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

from runner.forecast.answers import Forecast
from runner.types import Source
from serve_app.http.status_answer import CoverageItem
from serve_app.telemetry import metrics
from serve_app.telemetry.metrics import Metric
from serve_app.telemetry.recorder import Recorder
from serve_app.telemetry.request_history import RequestHistory
from serve_app.telemetry.request_log import RequestLog
from serve_app.telemetry.timings import Timings, kept_header


class Route(StrEnum):
    """Which way a forecast was asked for: one by itself, or among many under a longer deadline."""

    FORECAST = "forecast"
    BATCH = "batch"


Totals = Sequence[tuple[Metric, tuple[str, ...], int]]  # counter, tags, where it stands elsewhere


class RequestMetrics:
    """Sees every answer and every refusal of the forecast routes of one replica."""

    def __init__(self, recorder: Recorder, traffic: RequestHistory, log: RequestLog) -> None:
        self.traffic = traffic
        self._recorder = recorder
        self._log = log
        self._in_flight: Callable[[], int] = int
        self._coverage: Callable[[], Sequence[CoverageItem]] = tuple
        self._kept: Callable[[], Mapping[str, int]] = dict
        self._totals: Callable[[], Totals] = tuple
        self._from_model = recorder.counter(
            metrics.REQUESTS, Route.FORECAST, "answered", Source.MODEL
        )
        self._hits = recorder.counter(metrics.CACHE, "hit")
        self._total = recorder.histogram(metrics.LATENCY, Route.FORECAST, "total")

    def kept(self, now: float, total_ms: float, request_id: Callable[[], str]) -> bytes:
        """Bytes that were kept leave at ``now``; the value of their ``Server-Timing``."""
        self.traffic.answered(now, total_ms, None, cached=True)
        self._from_model.inc()
        self._hits.inc()
        self._total.observe(total_ms / 1e3)
        if self._log.every_request:
            self._log.kept(request_id(), total_ms)
        return kept_header(total_ms)

    def answered(
        self,
        route: Route,
        now: float,
        forecast: Forecast,
        stages: Timings,
        request_id: Callable[[], str],
    ) -> None:
        """A forecast leaves at ``now``; the time of one in a batch says nothing about others."""
        cached = forecast.cache_age_s is not None
        total_ms = stages.total_ms if route is Route.FORECAST else None
        self.traffic.answered(now, total_ms, forecast.fallback_reason, cached=cached)
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
        """A forecast was not made: refused, overloaded or failed."""
        self._recorder.counter(metrics.REQUESTS, route, outcome, "none").inc()

    def follow(
        self,
        in_flight: Callable[[], int],
        coverage: Callable[[], Sequence[CoverageItem]],
        kept: Callable[[], Mapping[str, int]],
        totals: Callable[[], Totals],
    ) -> None:
        """Where to look for what stands in gauges, and for what others count.

        Args:
            in_flight: requests under way.
            coverage: of recent outcomes, by source and segment.
            kept: entries of each cache.
            totals: of counters that are kept elsewhere.
        """
        self._in_flight = in_flight
        self._kept = kept
        self._coverage = coverage
        self._totals = totals

    def look(self) -> None:
        """Sets the gauges; called once a second, in the replica's event loop."""
        for counter, tags, total in self._totals():
            self._recorder.counter(counter, *tags).follow(total)
        gauge = self._recorder.gauge
        gauge(metrics.IN_FLIGHT).set(self._in_flight())
        gauge(metrics.TASKS).set(len(asyncio.all_tasks()))
        for cache, entries in self._kept().items():
            gauge(metrics.KEPT, cache).set(entries)
        for item in self._coverage():
            where = (item.source, item.segment)
            gauge(metrics.COVERAGE_TARGET, *where).set(item.target)
            gauge(metrics.COVERAGE_SAMPLES, *where).set(item.samples)
            for metric, value in (
                (metrics.COVERAGE, item.coverage),
                (metrics.CALIBRATED, item.calibrated_coverage),
                (metrics.WIDTH, item.mean_width),
                (metrics.BREACHES, item.breach_rate),
            ):
                if value is not None:
                    gauge(metric, *where).set(value)


def _cache_result(forecast: Forecast) -> str:
    if forecast.cache_stale:
        return "stale"
    return "miss" if forecast.cache_age_s is None else "hit"
