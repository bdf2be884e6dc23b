"""Metrics of one process: counted in a fraction of a microsecond, flushed once a second.

One increment of a Ray metric costs about 10 us (measured with 2.60), more than an answer from the
cache. So counts are plain numbers, and their increments are flushed later.
"""

from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from typing import Protocol, TypeVar

from serve_app.telemetry.metrics import Metric

Tags = Mapping[str, str]
_INFINITE = "+Inf"


class Sink(Protocol):
    """Receives the numbers; ``part`` is empty, or names the series of a histogram."""

    def add(self, metric: Metric, part: str, tags: Tags, growth: float) -> None:
        """Increments a counter, or a part of a histogram."""
        ...

    def set(self, metric: Metric, tags: Tags, value: float) -> None:
        """Sets a gauge."""
        ...


class Counter:
    """A number that only increases."""

    __slots__ = ("_flushed", "_followed", "_metric", "_tags", "value")

    def __init__(self, metric: Metric, tags: Tags) -> None:
        self._metric = metric
        self._tags = tags
        self.value = 0.0
        self._flushed = 0.0
        self._followed = 0.0

    def inc(self, by: float = 1.0) -> None:
        """Increments the counter."""
        self.value += by

    def follow(self, total: float) -> None:
        """Adds the increase of a counter elsewhere; a lower total means it restarted at 0."""
        self.value += total - self._followed if total >= self._followed else total
        self._followed = total

    def flush(self, sink: Sink) -> None:
        """Sends the increase since the last flush."""
        value = self.value
        if value > self._flushed:
            sink.add(self._metric, "", self._tags, value - self._flushed)
        self._flushed = value


class Gauge:
    """A number that is set."""

    __slots__ = ("_metric", "_tags", "value")

    def __init__(self, metric: Metric, tags: Tags) -> None:
        self._metric = metric
        self._tags = tags
        self.value: float | None = None

    def set(self, value: float) -> None:
        """Sets the value."""
        self.value = value

    def flush(self, sink: Sink) -> None:
        """Sends the value, at every flush: Ray drops gauges that are not repeated."""
        if self.value is not None:
            sink.set(self._metric, self._tags, self.value)


class Histogram:
    """Values counted in buckets."""

    __slots__ = ("_bounds", "_flushed", "_flushed_sum", "_metric", "_tags", "counts", "sum")

    def __init__(self, metric: Metric, tags: Tags) -> None:
        self._metric = metric
        self._tags = tags
        self._bounds = metric.bounds
        self.counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0
        self._flushed = list(self.counts)
        self._flushed_sum = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def flush(self, sink: Sink) -> None:
        """Sends the increase since the last flush; buckets are cumulative, edges inclusive."""
        grown = [new - old for new, old in zip(self.counts, self._flushed, strict=True)]
        if not any(grown):
            return
        edges = [*map(str, self._bounds), _INFINITE]
        for edge, growth in zip(edges, accumulate(grown), strict=True):
            if growth:
                sink.add(self._metric, "bucket", {**self._tags, "le": edge}, growth)
        sink.add(self._metric, "count", self._tags, sum(grown))
        if self.sum > self._flushed_sum:
            sink.add(self._metric, "sum", self._tags, self.sum - self._flushed_sum)
        self._flushed, self._flushed_sum = list(self.counts), self.sum


S = TypeVar("S", Counter, Gauge, Histogram)


class Recorder:
    """The series of one process; each is created once, and callers may keep a reference to it."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, ...], Counter | Gauge | Histogram] = {}

    def counter(self, metric: Metric, *values: str) -> Counter:
        """The counter with these values of its tags."""
        return self._find(Counter, metric, values)

    def gauge(self, metric: Metric, *values: str) -> Gauge:
        """The gauge with these values of its tags."""
        return self._find(Gauge, metric, values)

    def histogram(self, metric: Metric, *values: str) -> Histogram:
        """The histogram with these values of its tags."""
        return self._find(Histogram, metric, values)

    def flush(self, sink: Sink) -> None:
        """Flushes every series."""
        for series in self._series.values():
            series.flush(sink)

    def _find(self, kind: type[S], metric: Metric, values: tuple[str, ...]) -> S:
        key = (metric.name, *values)
        found = self._series.get(key)
        if found is None:
            assert metric.kind == kind.__name__.lower(), f"{metric.name} is a {metric.kind}"
            tags = dict(zip(metric.tags, values, strict=True))
            found = self._series[key] = kind(metric, tags)
        assert isinstance(found, kind)
        return found
