"""Metrics of one process: counted in a fraction of a microsecond, sent to Ray once a second.

One increment of a Ray metric costs about 10 us (measured with 2.60), and one of a metric of
``prometheus_client`` about 1 us: an answer from the cache counts several. So counts are plain
numbers, and their increases are sent later.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple, TypeVar

from serve_app.telemetry.metrics import Metric

Tags = Mapping[str, str]


@dataclass(slots=True, eq=False)
class Counter:
    """A number that only increases."""

    metric: Metric
    tags: Tags
    value: float = 0.0
    followed: float = 0.0

    def inc(self, by: float = 1.0) -> None:
        """Increments the counter."""
        self.value += by

    def follow(self, total: float) -> None:
        """Adds the increase of a counter elsewhere; a lower total means it restarted at 0."""
        self.value += total - self.followed if total >= self.followed else total
        self.followed = total


@dataclass(slots=True, eq=False)
class Gauge:
    """A number that is set; None before."""

    metric: Metric
    tags: Tags
    value: float | None = None

    def set(self, value: float) -> None:
        """Sets the value."""
        self.value = value


@dataclass(slots=True, eq=False)
class Histogram:
    """Values counted in buckets; edges are inclusive, the last bucket has none."""

    metric: Metric
    tags: Tags
    sum: float = 0.0
    counts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.metric.bounds) + 1)

    def observe(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.metric.bounds, value)] += 1
        self.sum += value


class Change(NamedTuple):
    """The increase of a counter, or of a part of a histogram; or the value of a gauge."""

    metric: Metric
    part: str
    tags: Tags
    value: float


S = TypeVar("S", Counter, Gauge, Histogram)


class Recorder:
    """The series of one process; each is created once, and callers may keep a reference to it."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, ...], Counter | Gauge | Histogram] = {}
        self._sent: dict[tuple[Counter | Histogram, str, str], float] = {}

    def counter(self, metric: Metric, *values: str) -> Counter:
        """The counter with these values of its tags."""
        return self._find(Counter, metric, values)

    def gauge(self, metric: Metric, *values: str) -> Gauge:
        """The gauge with these values of its tags."""
        return self._find(Gauge, metric, values)

    def histogram(self, metric: Metric, *values: str) -> Histogram:
        """The histogram with these values of its tags."""
        return self._find(Histogram, metric, values)

    def changes(self) -> Iterator[Change]:
        """What increased since the last call, and every gauge: Ray drops gauges without repeats."""
        for series in self._series.values():
            if isinstance(series, Gauge):
                if series.value is not None:
                    yield Change(series.metric, "", series.tags, series.value)
                continue
            for part, edge, value in _totals(series):
                growth = value - self._sent.get((series, part, edge), 0.0)
                if growth > 0:  # Ray refuses a zero
                    tags = {**series.tags, "le": edge} if edge else series.tags
                    yield Change(series.metric, part, tags, growth)
                    self._sent[series, part, edge] = value  # not reached when sending has failed

    def _find(self, kind: type[S], metric: Metric, values: tuple[str, ...]) -> S:
        key = (metric.name, *values)
        found = self._series.get(key)
        if found is None:
            assert metric.kind == kind.__name__.lower(), f"{metric.name} is a {metric.kind}"
            tags = dict(zip(metric.tags, values, strict=True))
            found = self._series[key] = kind(metric, tags)
        assert isinstance(found, kind)
        return found


def _totals(series: Counter | Histogram) -> Iterator[tuple[str, str, float]]:
    """Part, bucket and total; only histograms have parts and buckets, which are cumulative."""
    if isinstance(series, Counter):
        yield "", "", series.value
        return
    edges = [*map(str, series.metric.bounds), "+Inf"]
    for edge, count in zip(edges, accumulate(series.counts), strict=True):
        yield "bucket", edge, count
    yield "count", "", sum(series.counts)
    yield "sum", "", series.sum
