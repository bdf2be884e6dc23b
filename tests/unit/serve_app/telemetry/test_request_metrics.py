import logging
from typing import Any

import orjson
import pytest

from runner.calibration.coverage import CoverageReport, CoverageRow, LearningEvent
from runner.types import ModelFailure, RuntimeUsage
from serve_app.telemetry import metrics
from serve_app.telemetry.metrics import Metric
from serve_app.telemetry.recorder import Recorder
from serve_app.telemetry.request_metrics import usage_metrics
from tests.support.bench import EXAMPLE, Bench, example
from tests.support.builders import make_answer, make_bands
from tests.support.fakes import FakeLearning


def value(bench: Bench, metric: Metric, *tags: str) -> float:
    return bench.recorder.counter(metric, *tags).value


def observed(bench: Bench, route: str, stage: str) -> int:
    return sum(bench.recorder.histogram(metrics.LATENCY, route, stage).counts)


async def test_answers_are_counted_by_source_and_cache(bench: Bench) -> None:
    await bench.post(EXAMPLE)
    await bench.post(EXAMPLE)  # kept bytes
    await bench.post(EXAMPLE + b" ")  # a kept answer
    await bench.post(example(liquidity_bucket="low"))

    assert value(bench, metrics.REQUESTS, "forecast", "answered", "tollama") == 3
    assert value(bench, metrics.REQUESTS, "forecast", "answered", "baseline") == 1
    assert value(bench, metrics.CACHE, "hit") == 2
    assert value(bench, metrics.CACHE, "miss") == 2
    assert value(bench, metrics.FALLBACKS, "low_liquidity") == 1
    assert observed(bench, "forecast", "total") == 4


async def test_only_an_answer_that_waited_for_a_call_has_its_stages(bench: Bench) -> None:
    await bench.post(EXAMPLE)
    await bench.post(EXAMPLE + b" ")
    await bench.post(example(liquidity_bucket="low"))

    assert observed(bench, "forecast", "queue") == observed(bench, "forecast", "runtime") == 1
    assert observed(bench, "forecast", "admission") == observed(bench, "forecast", "post") == 3


async def test_corrections_count_once_and_not_again_from_the_cache(bench: Bench) -> None:
    bands = make_bands(horizon=12, corrections=("values_clipped", "interval_widened"))
    bench.model.outcome = make_answer(bands=bands)
    await bench.post(EXAMPLE)
    await bench.post(EXAMPLE + b" ")

    assert value(bench, metrics.CORRECTIONS, "values_clipped", "tollama") == 1
    assert value(bench, metrics.CORRECTIONS, "interval_widened", "tollama") == 1


async def test_errors_of_callers_and_of_the_service_are_counted_apart(bench: Bench) -> None:
    def explode(_: object) -> ModelFailure:
        raise RuntimeError

    await bench.post(b"{")
    await bench.post(example(y=[3.0, 0.5]))
    await bench.http.get("/nowhere")
    bench.model.outcome = explode
    await bench.post(EXAMPLE)

    assert value(bench, metrics.REQUESTS, "forecast", "refused", "none") == 2
    assert value(bench, metrics.REQUESTS, "forecast", "failed", "none") == 1


async def test_items_of_a_batch_count_one_by_one_under_their_own_route(bench: Bench) -> None:
    requests = [example(), example(y=[0.4] * 40), 5]
    await bench.http.post("/tsfm/forecast/batch", content=orjson.dumps({"requests": requests}))

    assert value(bench, metrics.REQUESTS, "batch", "answered", "tollama") == 2
    assert value(bench, metrics.REQUESTS, "batch", "refused", "none") == 1
    assert observed(bench, "batch", "total") == 2
    assert observed(bench, "forecast", "total") == 0


async def test_server_timing_says_where_the_time_went(bench: Bench) -> None:
    fresh = (await bench.post(EXAMPLE)).headers["server-timing"]
    kept = (await bench.post(EXAMPLE)).headers["server-timing"]
    baseline = (await bench.post(example(liquidity_bucket="low"))).headers["server-timing"]

    assert fresh == (
        "admission;dur=0.000, queue;dur=1.500, runtime;dur=40.000, post;dur=0.000, total;dur=0.000"
    )
    assert kept == "cache;desc=hit, total;dur=0.000"
    assert baseline == "admission;dur=0.000, post;dur=0.000, total;dur=0.000"


async def test_coverage_and_counts_of_the_learning_actor_are_metrics() -> None:
    row = CoverageRow(
        source="ewma",
        segment="all",
        points=400,
        coverage=0.75,
        mean_width=0.1,
        breach_rate=0.05,
        calibrated_coverage=None,
        calibrated_mean_width=None,
    )
    learning = FakeLearning()
    learning.report = CoverageReport(0.8, (row,), {LearningEvent.UNKNOWN_OUTCOMES: 3})
    learning.exchanges, learning.dropped_notes = {"lost": 2}, 5
    bench = Bench(learning=learning)
    bench.under_way.single = 7
    bench.request_metrics.update_gauges()
    learning.report = CoverageReport(0.8, counts={LearningEvent.UNKNOWN_OUTCOMES: 1})  # restarted
    bench.request_metrics.update_gauges()

    assert bench.recorder.gauge(metrics.IN_FLIGHT).value == 7
    assert bench.recorder.gauge(metrics.COVERAGE, "ewma", "all").value == 0.75
    assert bench.recorder.gauge(metrics.CALIBRATED, "ewma", "all").value is None
    assert bench.recorder.gauge(metrics.COVERAGE_SAMPLES, "ewma", "all").value == 400
    assert bench.recorder.gauge(metrics.BREACHES, "ewma", "all").value == 0.05
    assert value(bench, metrics.LEARNING, "unknown_outcomes") == 4
    assert value(bench, metrics.LEARNING_EXCHANGES, "lost") == 2
    assert value(bench, metrics.LEARNING_DROPPED) == 5


def lines(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, Any]]:
    return [vars(r) for r in caplog.records if r.getMessage() == message]


async def test_each_request_has_a_line_at_debug(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "serve_app.telemetry.request_metrics"):
        await bench.post(EXAMPLE, **{"x-request-id": "r-1"})
        await bench.post(EXAMPLE, **{"x-request-id": "r-2"})
        await bench.post(example(liquidity_bucket="low"), **{"x-request-id": "r-3"})

    model, kept, baseline = lines(caplog, "answered")
    assert (model["request_id"], model["source"], model["cached"]) == ("r-1", "tollama", False)
    assert (model["queue_ms"], model["runtime_ms"]) == (1.5, 40.0)
    assert (kept["request_id"], kept["cached"]) == ("r-2", True)
    assert baseline["reason"] == "low_liquidity"
    assert "runtime_ms" not in baseline


async def test_each_fallback_reason_has_a_line_a_minute_with_how_many_there_were(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "serve_app.telemetry.request_metrics"):
        for _ in range(5):
            await bench.post(example(liquidity_bucket="low"))
        await bench.post(example(y=[0.5, 0.5]))
        bench.clock.now += 60.0
        await bench.post(example(liquidity_bucket="low"))

    told = [(line["reason"], line["count"]) for line in lines(caplog, "fell back")]
    assert told == [("low_liquidity", 1), ("too_few_points", 1), ("low_liquidity", 5)]
    assert lines(caplog, "answered") == []


async def test_nothing_a_caller_sent_is_logged(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await bench.post(example(market_id="secret-market", liquidity_bucket="low"))

    assert "secret-market" not in str([vars(record) for record in caplog.records])


async def test_cache_entries_and_tasks_are_gauges() -> None:
    bench = Bench(learning=None)
    await bench.post(EXAMPLE)
    await bench.post(EXAMPLE + b" ")
    await bench.post(example(liquidity_bucket="low"))
    bench.request_metrics.update_gauges()

    assert bench.recorder.gauge(metrics.KEPT, "answers").value == 1
    assert bench.recorder.gauge(metrics.KEPT, "bytes").value == 2
    assert bench.recorder.gauge(metrics.COVERAGE, "ewma", "all").value is None
    assert (bench.recorder.gauge(metrics.TASKS).value or 0) >= 1


def test_what_a_runtime_says_of_a_call_is_recorded_where_it_says_it() -> None:
    recorder = Recorder()
    record = usage_metrics(recorder)
    record("m", RuntimeUsage(inference_ms=250.0, peak_memory_mb=2.0))
    record("m", RuntimeUsage())

    inference = recorder.histogram(metrics.RUNTIME_INFERENCE, "m")
    assert (sum(inference.counts), inference.sum) == (1, 0.25)
    assert recorder.gauge(metrics.RUNTIME_MEMORY, "m").value == 2 * 2**20
