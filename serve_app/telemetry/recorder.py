"""Metrics of one process: counted in a fraction of a microsecond, sent to Ray once a second.

One increment of a Ray metric costs about 10 us (measured with 2.60), and one of a metric of
``prometheus_client`` about 1 us: an answer from the cache counts several. So counts are plain
numbers, and a `Flusher` sends their increases. Ray collects them from every replica of every node.

Histograms are sent as counters, a series for each bucket: Ray's own histograms cost one call per
value, and its collector estimates their sums from the middles of the buckets.
"""

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

from ray.serve import metrics as serve_metrics

from serve_app.telemetry.metrics import Kind, Metric

logger = logging.getLogger(__name__)
EVERY_S = 1.0
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


class RaySink:
    """Creates each Serve metric at its first use; works only in a replica."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __call__(self, change: Change) -> None:
        """Increments a Serve counter, or sets a gauge."""
        metric, part, tags, value = change
        name, is_gauge = metric.ray_name(part), metric.kind is Kind.GAUGE
        if name not in self._made:
            kind: Any = serve_metrics.Gauge if is_gauge else serve_metrics.Counter
            self._made[name] = kind(name, description=metric.help, tag_keys=tuple(tags))
        made = self._made[name]
        (made.set if is_gauge else made.inc)(value, dict(tags))


class Flusher:
    """Sends a recorder's changes to ``sink``; ``update_gauges`` is called before."""

    def __init__(
        self,
        recorder: Recorder,
        sink: Callable[[Change], object],
        update_gauges: Callable[[], None],
    ) -> None:
        self._recorder = recorder
        self._sink = sink
        self._update_gauges = update_gauges
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    def start(self) -> None:
        """Starts flushing once a second, in the running loop. A second call does nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._forever(), name="metrics")

    def flush(self) -> None:
        """Flushes once; the first of consecutive errors is logged, none reaches a request."""
        try:
            self._update_gauges()
            for change in self._recorder.changes():
                self._sink(change)
            self._failing = False
        except Exception:
            if not self._failing:
                logger.exception("metrics could not be flushed")
            self._failing = True

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            self.flush()
