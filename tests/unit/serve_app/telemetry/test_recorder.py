import asyncio
import logging

import pytest

from serve_app.telemetry.metrics import CACHE, IN_FLIGHT, LATENCY, METRICS, Kind, Metric
from serve_app.telemetry.recorder import Change, Flusher, Recorder


class FakeSink:
    """Sums the increases and keeps the last value of each gauge; may fail."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, frozenset[tuple[str, str]]], float] = {}
        self.calls = 0
        self.fails = False

    def __call__(self, change: Change) -> None:
        if self.fails:
            raise OSError("no agent")
        self.calls += 1
        row = (change.metric.name, change.part, frozenset(change.tags.items()))
        before = 0.0 if change.metric.kind is Kind.GAUGE else self.rows.get(row, 0.0)
        self.rows[row] = before + change.value

    def of(self, metric: Metric, part: str = "", **tags: str) -> float | None:
        return self.rows.get((metric.name, part, frozenset(tags.items())))


def flushed() -> tuple[Recorder, FakeSink, Flusher]:
    recorder, sink = Recorder(), FakeSink()
    return recorder, sink, Flusher(recorder, sink, lambda: None)


def test_only_what_has_increased_is_sent() -> None:
    recorder, sink, flusher = flushed()
    latency = recorder.histogram(LATENCY, "forecast", "total")
    for _ in range(3):
        recorder.counter(CACHE, "hit").inc()
        latency.observe(0.0)
        flusher.flush()
    calls = sink.calls
    flusher.flush()
    tags = {"route": "forecast", "stage": "total"}

    assert sink.calls == calls
    assert sink.of(CACHE, result="hit") == 3.0
    assert sink.of(LATENCY, "bucket", le="+Inf", **tags) == 3
    assert sink.of(LATENCY, "sum", **tags) is None  # nothing to add, and Ray refuses a zero


def test_gauge_is_repeated_and_one_never_set_is_left_out() -> None:
    recorder, sink, flusher = flushed()
    gauge = recorder.gauge(IN_FLIGHT)
    flusher.flush()
    unset = sink.of(IN_FLIGHT)
    gauge.set(3)
    flusher.flush()
    flusher.flush()

    assert (unset, sink.of(IN_FLIGHT), sink.calls) == (None, 3, 2)


def test_bucket_counts_values_up_to_and_including_its_edge() -> None:
    recorder, sink, flusher = flushed()
    for value in (0.3, 0.3000001, 0.0001, 99.0):
        recorder.histogram(LATENCY, "forecast", "total").observe(value)
    flusher.flush()
    tags = {"route": "forecast", "stage": "total"}

    at = {le: sink.of(LATENCY, "bucket", le=le, **tags) for le in ("0.0005", "0.3", "0.5", "+Inf")}
    assert at == {"0.0005": 1, "0.3": 2, "0.5": 3, "+Inf": 4}
    assert sink.of(LATENCY, "count", **tags) == 4
    assert sink.of(LATENCY, "sum", **tags) == pytest.approx(99.6001001)


def test_first_error_of_the_sink_is_logged_and_the_counts_are_sent_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder, sink, flusher = flushed()
    sink.fails = True
    recorder.counter(CACHE, "hit").inc()
    with caplog.at_level(logging.ERROR):
        flusher.flush()
        recorder.counter(CACHE, "hit").inc()
        flusher.flush()
    sink.fails = False
    flusher.flush()

    assert [record.getMessage() for record in caplog.records] == ["metrics could not be flushed"]
    assert sink.of(CACHE, result="hit") == 2


async def test_second_start_does_nothing() -> None:
    _, _, flusher = flushed()
    before = asyncio.all_tasks()
    flusher.start()
    flusher.start()
    started = asyncio.all_tasks() - before
    for task in started:
        task.cancel()

    assert [task.get_name() for task in started] == ["metrics"]


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
