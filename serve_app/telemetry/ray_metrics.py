"""Sends our metrics to Ray Serve; Ray collects them from every replica of every node.

Histograms are sent as counters, a series for each bucket: Ray's own histograms cost one call per
value, and its collector estimates their sums from the middles of the buckets.
"""

from typing import Any

from ray.serve import metrics as serve_metrics

from serve_app.telemetry.metrics import Kind, Metric
from serve_app.telemetry.recorder import Tags


class RaySink:
    """Creates each Serve metric at its first use; works only in a replica."""

    def __init__(self) -> None:
        self._counters: dict[str, serve_metrics.Counter] = {}
        self._gauges: dict[str, serve_metrics.Gauge] = {}

    def add(self, metric: Metric, part: str, tags: Tags, growth: float) -> None:
        """Increments a counter, or a part of a histogram."""
        name = ray_name(metric, part)
        counter = self._counters.get(name)
        if counter is None:
            keys = (*metric.tags, "le") if part == "bucket" else metric.tags
            counter = self._counters[name] = _made(serve_metrics.Counter, name, metric, keys)
        counter.inc(growth, dict(tags))

    def set(self, metric: Metric, tags: Tags, value: float) -> None:
        """Sets a gauge."""
        gauge = self._gauges.get(metric.name)
        if gauge is None:
            gauge = _made(serve_metrics.Gauge, metric.name, metric, metric.tags)
            self._gauges[metric.name] = gauge
        gauge.set(value, dict(tags))


def ray_name(metric: Metric, part: str = "") -> str:
    """The name in Ray, which adds the prefix ``ray_``, and ``_total`` to counters.

    >>> from serve_app.telemetry.metrics import LATENCY, REQUESTS
    >>> ray_name(REQUESTS), ray_name(LATENCY, "bucket")
    ('tsfm_requests', 'tsfm_latency_seconds_bucket')
    """
    if metric.kind is Kind.COUNTER:
        return metric.name.removesuffix("_total")
    return f"{metric.name}_{part}" if part else metric.name


def _made(kind: Any, name: str, metric: Metric, keys: tuple[str, ...]) -> Any:
    return kind(name, description=metric.help, tag_keys=keys)
