"""Metrics of one process, counted here in a fraction of a microsecond and handed on once a second.

One increment of a metric of Ray's costs about 10 us (2.60 on the machine this was written on), more
than an answer from the cache. So counts stay in plain numbers, and what they grew by goes on later.
"""

from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from typing import Protocol

from serve_app.telemetry.metrics import Kind, Metric

Tags = Mapping[str, str]
_INFINITE = "+Inf"


class Sink(Protocol):
    """Where numbers go; ``part`` is empty, or which series of a histogram is meant."""

    def add(self, metric: Metric, part: str, tags: Tags, growth: float) -> None:
        """A counter, or a part of a histogram, grew."""
        ...

    def set(self, metric: Metric, tags: Tags, value: float) -> None:
        """A gauge stands at a value."""
        ...


class Counter:
    """A number that rises."""

    __slots__ = ("_flushed", "_followed", "_metric", "_tags", "value")

    def __init__(self, metric: Metric, tags: Tags) -> None:
        self._metric = metric
        self._tags = tags
        self.value = 0.0
        self._flushed = 0.0
        self._followed = 0.0

    def inc(self, by: float = 1.0) -> None:
        """Adds."""
        self.value += by

    def follow(self, total: float) -> None:
        """Adds what a count kept elsewhere grew by; one that has fallen began again at 0."""
        self.value += total - self._followed if total >= self._followed else total
        self._followed = total

    def flush(self, sink: Sink) -> None:
        """Hands on what came since the last time."""
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
        """Replaces."""
        self.value = value

    def flush(self, sink: Sink) -> None:
        """Hands on where it stands, every time: Ray forgets gauges that are not repeated."""
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
        """Hands on what came since the last time; a bucket holds all that is not over its edge."""
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


class Recorder:
    """The series of one process; each is made once and may be kept by whoever writes to it."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, ...], Counter | Gauge | Histogram] = {}

    def counter(self, metric: Metric, *values: str) -> Counter:
        """The counter with these values of its tags."""
        found = self._find(Kind.COUNTER, metric, values)
        assert isinstance(found, Counter)
        return found

    def gauge(self, metric: Metric, *values: str) -> Gauge:
        """The gauge with these values of its tags."""
        found = self._find(Kind.GAUGE, metric, values)
        assert isinstance(found, Gauge)
        return found

    def histogram(self, metric: Metric, *values: str) -> Histogram:
        """The histogram with these values of its tags."""
        found = self._find(Kind.HISTOGRAM, metric, values)
        assert isinstance(found, Histogram)
        return found

    def flush(self, sink: Sink) -> None:
        """Hands every series on."""
        for series in self._series.values():
            series.flush(sink)

    def _find(
        self, kind: Kind, metric: Metric, values: tuple[str, ...]
    ) -> Counter | Gauge | Histogram:
        key = (metric.name, *values)
        found = self._series.get(key)
        if found is None:
            assert metric.kind is kind, f"{metric.name} is a {metric.kind}"
            tags = dict(zip(metric.tags, values, strict=True))
            found = self._series[key] = _SERIES[kind](metric, tags)
        return found


_SERIES: Mapping[Kind, type[Counter | Gauge | Histogram]] = {
    Kind.COUNTER: Counter,
    Kind.GAUGE: Gauge,
    Kind.HISTOGRAM: Histogram,
}
