import asyncio
from typing import Any

import httpx
import orjson
import pytest

import serve_app.http.status_endpoint as status_endpoint
from runner.types import BreakerState, FallbackReason, ModelFailure
from serve_app.http.status_endpoint import RunnerReport, breaker_item
from tests.support.bench import EXAMPLE, Bench, example


async def status(bench: Bench) -> dict[str, Any]:
    response: httpx.Response = await bench.http.get("/tsfm/status")
    body: dict[str, Any] = response.json()
    return body


async def test_status_before_the_first_request_has_nulls_not_zeros(bench: Bench) -> None:
    body = await status(bench)

    assert (body["scope"], body["window_s"], body["environment"]) == ("replica", 300, "dev")
    assert body["requests"] == {
        "total": 0,
        "rate_per_s": 0.0,
        "fallback_share": None,
        "cache_hit_share": None,
        "p50_ms": None,
        "p95_ms": None,
    }
    assert body["history"] == [
        {"t": "2026-02-20T12:00:00Z", "requests": 0, "fallbacks": 0, "p50_ms": None, "p95_ms": None}
    ]
    assert body["replicas"] == {"Ingress": None, "Runner": None, "Baseline": None}
    assert (body["fallback_reasons"], body["breakers"], body["coverage"]) == ({}, [], [])
    queue = {"in_flight": 0, "waiting": None, "shed_above": 256, "refuse_above": 768}
    assert body["queue"] == queue
    assert body["models"] == (await bench.http.get("/tsfm/models")).json()["models"]


@pytest.mark.parametrize(
    ("runner", "has"),
    [
        (None, None),
        (RunnerReport([], 0, None), None),
        (RunnerReport([], 0, {"fracast-0"}), True),
        (RunnerReport([], 0, {"mock"}), False),
    ],
)
async def test_models_and_readiness_say_whether_a_runtime_has_the_model(
    bench: Bench, runner: RunnerReport | None, has: bool | None
) -> None:
    bench.fleet.known_runner = runner
    models = {m["name"]: m for m in (await bench.http.get("/tsfm/models")).json()["models"]}
    ready = (await bench.http.get("/readyz")).json()

    assert (models["fracast-0"]["installed"], ready["default_model_installed"]) == (has, has)
    assert ready["default_model"] == "fracast-0"


async def test_readiness_does_not_wait_for_a_runner_that_hangs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_endpoint, "READY_LIMIT_S", 0.01)
    monkeypatch.setattr(bench.fleet, "runner", asyncio.Event().wait)

    assert (await bench.http.get("/readyz")).json()["default_model_installed"] is None


async def test_answers_are_counted_by_how_they_came_about(bench: Bench) -> None:
    await bench.post(EXAMPLE)
    await bench.post(EXAMPLE)
    await bench.post(example(liquidity_bucket="low"))
    batch = {"requests": [example(), example(liquidity_bucket="low"), 5]}
    await bench.http.post("/tsfm/forecast/batch", content=orjson.dumps(batch))
    bench.clock.now += 10.0
    await bench.post(example(y=[0.5]))

    body = await status(bench)

    assert body["requests"]["total"] == 5
    assert body["requests"]["rate_per_s"] == 0.5
    assert body["requests"]["cache_hit_share"] == pytest.approx(2 / 5)
    assert body["requests"]["fallback_share"] == pytest.approx(2 / 5)
    assert body["fallback_reasons"] == {"low_liquidity": 2}
    assert [slot["requests"] for slot in body["history"]] == [5, 0]
    assert body["uptime_s"] == 10.0


async def test_requests_that_are_not_to_be_observed_are_counted_apart(bench: Bench) -> None:
    for _ in range(2):
        await bench.post(example(liquidity_bucket="low", observe=False))
    await bench.post(example(observe=False))

    assert (await status(bench))["requests"]["total"] == 0
    counted = {(c.metric.name, *c.tags.values()): c.value for c in bench.recorder.changes()}
    assert {labels: n for labels, n in counted.items() if labels[1:2] == ("forecast",)} == {
        ("tsfm_requests_total", "forecast", "unobserved", "baseline"): 2,
        ("tsfm_requests_total", "forecast", "unobserved", "tollama"): 1,
    }
    assert not [labels for labels in counted if labels[0] == "tsfm_fallbacks_total"]


async def test_replicas_and_breakers_are_shown_as_they_were_found(bench: Bench) -> None:
    bench.fleet.known_replicas = {"Ingress": 1, "Runner": 2}
    open_one = breaker_item("fracast-0", BreakerState.OPEN, 12.3456)
    bench.fleet.known_runner = RunnerReport([open_one], 31)

    body = await status(bench)

    assert body["replicas"] == {"Ingress": 1, "Runner": 2, "Baseline": None}
    assert body["queue"]["waiting"] == 31
    assert body["breakers"] == [
        {"model": "fracast-0", "state": "open", "next_probe_in_s": 12.346},
    ]


async def test_breakers_last_heard_of_are_shown_when_the_runner_is_away(bench: Bench) -> None:
    bench.model.outcome = ModelFailure(FallbackReason.BREAKER_OPEN, BreakerState.OPEN, 30.0)
    await bench.post(EXAMPLE)

    body, ready = await status(bench), await bench.http.get("/readyz")

    assert body["breakers"] == [{"model": "fracast-0", "state": "open", "next_probe_in_s": None}]
    assert (ready.status_code, ready.json()["breakers"]) == (200, {"fracast-0": "open"})


def test_breaker_that_was_forced_open_has_no_next_probe() -> None:
    assert breaker_item("m", BreakerState.FORCED_OPEN, 120.0).next_probe_in_s is None
    assert breaker_item("m", BreakerState.CLOSED, 0.0).next_probe_in_s is None
