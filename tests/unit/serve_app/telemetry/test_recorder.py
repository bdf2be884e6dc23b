import timeit
from collections.abc import Mapping

import pytest

from serve_app.telemetry.metrics import CACHE, IN_FLIGHT, LATENCY, METRICS, Kind, Metric
from serve_app.telemetry.recorder import Recorder

Row = tuple[str, str, frozenset[tuple[str, str]]]


class FakeSink:
    """Sums the increases and keeps the last value of each gauge."""

    def __init__(self) -> None:
        self.rows: dict[Row, float] = {}
        self.calls = 0

    def add(self, metric: Metric, part: str, tags: Mapping[str, str], growth: float) -> None:
        self.calls += 1
        row = (metric.name, part, frozenset(tags.items()))
        self.rows[row] = self.rows.get(row, 0.0) + growth

    def set(self, metric: Metric, tags: Mapping[str, str], value: float) -> None:
        self.calls += 1
        self.rows[metric.name, "", frozenset(tags.items())] = value

    def of(self, metric: Metric, part: str = "", **tags: str) -> float | None:
        return self.rows.get((metric.name, part, frozenset(tags.items())))


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_counter_flushes_the_increase_since_the_last_flush(
    recorder: Recorder, sink: FakeSink
) -> None:
    recorder.counter(CACHE, "hit").inc()
    recorder.counter(CACHE, "hit").inc(2.0)
    recorder.flush(sink)
    recorder.counter(CACHE, "hit").inc()
    recorder.flush(sink)

    assert sink.of(CACHE, result="hit") == 4.0


def test_unchanged_series_are_not_flushed_again(recorder: Recorder, sink: FakeSink) -> None:
    recorder.counter(CACHE, "hit").inc()
    recorder.histogram(LATENCY, "forecast", "total").observe(0.1)
    recorder.flush(sink)
    before = sink.calls
    recorder.flush(sink)

    assert sink.calls == before


def test_gauge_is_repeated_and_one_never_set_is_left_out(
    recorder: Recorder, sink: FakeSink
) -> None:
    gauge = recorder.gauge(IN_FLIGHT)
    recorder.flush(sink)
    unset = sink.of(IN_FLIGHT)
    gauge.set(3)
    recorder.flush(sink)
    recorder.flush(sink)

    assert (unset, sink.of(IN_FLIGHT), sink.calls) == (None, 3, 2)


def test_bucket_counts_values_up_to_and_including_its_edge(
    recorder: Recorder, sink: FakeSink
) -> None:
    latency = recorder.histogram(LATENCY, "forecast", "total")
    for value in (0.3, 0.3000001, 0.0001, 99.0):
        latency.observe(value)
    recorder.flush(sink)
    tags = {"route": "forecast", "stage": "total"}

    at = {le: sink.of(LATENCY, "bucket", le=le, **tags) for le in ("0.0005", "0.3", "0.5", "+Inf")}
    assert at == {"0.0005": 1, "0.3": 2, "0.5": 3, "+Inf": 4}
    assert sink.of(LATENCY, "count", **tags) == 4
    assert sink.of(LATENCY, "sum", **tags) == pytest.approx(99.6001001)


def test_histogram_flushes_the_increase_since_the_last_flush(
    recorder: Recorder, sink: FakeSink
) -> None:
    latency = recorder.histogram(LATENCY, "forecast", "total")
    for _ in range(3):
        latency.observe(0.0)
        recorder.flush(sink)
    tags = {"route": "forecast", "stage": "total"}

    assert sink.of(LATENCY, "bucket", le="+Inf", **tags) == 3
    assert sink.of(LATENCY, "sum", **tags) is None  # nothing to add, and Ray refuses a zero


def test_metric_cannot_be_used_as_another_kind(recorder: Recorder) -> None:
    with pytest.raises(AssertionError, match="is a gauge"):
        recorder.counter(IN_FLIGHT)


def test_names_are_those_of_prometheus() -> None:
    for metric in METRICS:
        assert metric.name.startswith("tsfm_")
        assert metric.name.endswith("_total") is (metric.kind is Kind.COUNTER)
        assert list(metric.bounds) == sorted(set(metric.bounds))
        assert bool(metric.bounds) is (metric.kind is Kind.HISTOGRAM)
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_tags_are_a_fixed_list_without_data_of_callers() -> None:
    tags = {tag for metric in METRICS for tag in metric.tags}

    assert tags <= {
        *("route", "outcome", "source", "stage", "reason", "kind", "result"),
        *("model", "state", "segment", "cache"),
    }


def test_counting_costs_a_few_microseconds_at_most(recorder: Recorder) -> None:
    counter, latency = recorder.counter(CACHE, "hit"), recorder.histogram(LATENCY, "f", "total")

    def count() -> None:
        counter.inc()
        latency.observe(0.0123)

    best_s = min(timeit.repeat(count, number=2000, repeat=7)) / 2000
    assert best_s < 10e-6
