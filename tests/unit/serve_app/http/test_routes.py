import asyncio
from collections import Counter

import httpx
import pytest

from runner.config.sections import Environment
from runner.types import FallbackReason, ModelFailure
from serve_app.telemetry import metrics
from tests.support.bench import EXAMPLE, Bench, example
from tests.support.builders import make_answer, make_bands, make_config


async def test_answer_to_the_example_of_the_document(bench: Bench) -> None:
    response = await bench.post(EXAMPLE)

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "market_id": "m-1",
        "as_of_ts": "2026-02-20T12:00:00Z",
        "freq": "5m",
        "horizon_steps": 12,
        "quantiles": [0.1, 0.5, 0.9],
        "yhat_q": {"0.1": [0.3] * 12, "0.5": [pytest.approx(0.45)] * 12, "0.9": [0.6] * 12},
        "meta": {
            "runtime": "tollama",
            "model_requested": "chronos",
            "model_name": "fracast-0",
            "model_version": "0.1.0",
            "input_len": 32,
            "gaps_filled": 0,
            "transform": {"space": "logit", "eps": 1e-6},
            "fallback_used": False,
            "fallback_reason": None,
            "warnings": ["model_params_dropped"],
            "cache_stale": False,
            "batch_size": 4,
            "queue_ms": 1.5,
            "runtime_ms": 40.0,
            "cache_hit": False,
            "cache_age_s": None,
            "circuit_breaker_state": "closed",
            "latency_ms": 0.0,
        },
    }


async def test_defaults_fill_in_what_is_left_out(bench: Bench) -> None:
    body = (
        await bench.post(
            example(freq=..., horizon_steps=..., quantiles=..., transform=..., model=...)
        )
    ).json()

    assert (body["freq"], body["horizon_steps"], body["quantiles"]) == ("5m", 12, [0.1, 0.5, 0.9])
    assert body["meta"]["model_name"] == "fracast-0"


async def test_same_bytes_are_answered_from_what_was_kept(bench: Bench) -> None:
    first = (await bench.post(EXAMPLE)).json()
    bench.clock.now += 20.0
    again = (await bench.post(EXAMPLE)).json()

    assert again["meta"].pop("cache_hit") is True
    assert again["meta"].pop("cache_age_s") == 20.0
    assert first["yhat_q"] == again["yhat_q"]
    assert len(bench.model.requests) == 1


async def test_kept_bytes_do_not_outlive_an_answer_that_was_old_already(bench: Bench) -> None:
    bench.model.outcome = make_answer(bands=make_bands(horizon=12), age_s=50.0)
    first = (await bench.post(EXAMPLE)).json()["meta"]
    bench.clock.now += 11.0
    await bench.post(EXAMPLE)

    assert (first["cache_hit"], first["cache_age_s"]) == (True, 50.0)
    assert len(bench.model.requests) == 2


async def test_fallback_says_so_in_meta(bench: Bench) -> None:
    meta = (await bench.post(example(liquidity_bucket="low"))).json()["meta"]

    assert (meta["runtime"], meta["model_name"]) == ("baseline", "ewma")
    assert meta["fallback_used"] is True
    assert meta["fallback_reason"] == "low_liquidity"
    assert "fallback_low_liquidity" in meta["warnings"]
    assert "batch_size" not in meta


async def test_stale_answer_is_marked_and_not_kept(bench: Bench) -> None:
    await bench.post(EXAMPLE)
    bench.clock.now += 61.0
    bench.model.outcome = ModelFailure(FallbackReason.RUNTIME_TIMEOUT, make_answer().breaker_state)
    for _ in range(2):
        meta = (await bench.post(EXAMPLE)).json()["meta"]

    assert (meta["cache_stale"], meta["fallback_reason"]) == (True, "stale_if_error")
    assert meta["cache_age_s"] == 61.0
    assert len(bench.model.requests) == 3
    assert bench.recorder.counter(metrics.CACHE, "stale").value == 2
    assert bench.recorder.counter(metrics.FALLBACKS, "stale_if_error").value == 2


async def test_null_in_y_is_a_gap(bench: Bench) -> None:
    y = [0.4] * 20 + [None, None] + [0.5] * 20

    meta = (await bench.post(example(y=y))).json()["meta"]

    assert (meta["input_len"], meta["gaps_filled"]) == (42, 2)
    assert "gaps_filled" in meta["warnings"]


@pytest.mark.parametrize(
    ("field", "header", "config_ms", "budget_s"),
    [
        (None, None, 1500, 1.38),
        (500.0, None, 1500, 0.38),
        (None, "300", 1500, 0.18),
        (500.0, "300", 1500, 0.18),
        (9000.0, "9000", 1500, 1.38),
    ],
)
async def test_callers_may_tighten_the_deadline_and_never_loosen_it(
    bench: Bench, field: float | None, header: str | None, config_ms: int, budget_s: float
) -> None:
    body = example(deadline_ms=... if field is None else field)
    headers = {} if header is None else {"X-Request-Deadline-Ms": header}
    await bench.post(body, **headers)

    assert bench.model.requests[0].budget_s == pytest.approx(budget_s)


async def test_model_the_environment_does_not_allow_is_forbidden_with_the_reason() -> None:
    bench = Bench(make_config(environment=Environment.PROD))
    response = await bench.post(example(model={"model_name": "moirai"}))

    assert (response.status_code, response.json()["error"]["code"]) == (403, "model_not_allowed")
    assert "CC-BY-NC-4.0" in response.json()["error"]["message"]


async def test_fault_of_ours_is_a_plain_500_without_a_trace(bench: Bench) -> None:
    def explode(_: object) -> ModelFailure:
        raise RuntimeError("secret detail")

    bench.model.outcome = explode
    response = await bench.post(EXAMPLE, **{"X-Request-ID": "abc-1"})

    assert response.status_code == 500
    assert response.json()["error"]["request_id"] == "abc-1"
    assert "secret" not in response.text


@pytest.mark.parametrize("given", ["a b", "x" * 129, "<b>"])
async def test_request_id_that_could_do_harm_is_replaced(bench: Bench, given: str) -> None:
    response = await bench.post(b"{", **{"X-Request-ID": given})

    assert response.json()["error"]["request_id"] != given


async def crowd(bench: Bench, count: int) -> list[httpx.Response]:
    """The answers of ``count`` callers who all came before the model gave its first one."""
    bench.model.gate = asyncio.Event()
    asking = [
        asyncio.ensure_future(bench.post(example(y=[0.3 + i / 1000] * 40))) for i in range(count)
    ]
    while sum(task.done() for task in asking) + len(bench.model.requests) < count:  # noqa: ASYNC110 - a few turns of the loop
        await asyncio.sleep(0)
    bench.model.gate.set()
    return list(await asyncio.gather(*asking))


async def test_overload_goes_to_the_baseline_first_and_then_to_429() -> None:
    bench = Bench(make_config(overload={"shed_above": 2, "refuse_above": 4, "retry_after_s": 1.5}))
    for _ in range(2):  # the places are free again after the crowd has gone
        bench.model.requests.clear()
        bench.clock.now += 1000.0
        answers = await crowd(bench, 3)

        reasons = [a.json()["meta"]["fallback_reason"] for a in answers]
        assert sorted(map(str, reasons)) == ["None", "None", "overloaded"]


async def test_requests_beyond_the_limit_are_answered_one_in_a_turn_of_the_loop() -> None:
    bench = Bench(make_config(overload={"shed_above": 1, "refuse_above": 99, "retry_after_s": 1.5}))
    turn = 0
    answered_in: Counter[int] = Counter()

    async def ask(number: int) -> None:
        await bench.post(example(y=[0.3 + number / 1000] * 40))
        answered_in[turn] += 1

    bench.model.gate = asyncio.Event()
    tasks = [asyncio.ensure_future(ask(number)) for number in range(9)]
    while sum(task.done() for task in tasks) < 8:  # the first waits for the model
        await asyncio.sleep(0)
        turn += 1
    bench.model.gate.set()
    await asyncio.gather(*tasks)

    assert max(answered_in.values()) == 1


async def test_request_over_the_hard_limit_is_refused_with_a_retry_time() -> None:
    bench = Bench(make_config(overload={"shed_above": 1, "refuse_above": 1, "retry_after_s": 1.5}))
    answers = await crowd(bench, 3)

    refused = [a for a in answers if a.status_code == 429]
    assert len(refused) == 2
    assert {a.json()["error"]["code"] for a in refused} == {"overloaded"}
    assert {a.headers["retry-after"] for a in refused} == {"2"}
    counter = bench.recorder.counter(metrics.REQUESTS, "forecast", "overloaded", "none")
    assert counter.value == 2


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/tsfm/forecast/", 404, "not_found"),
        ("GET", "/docs/", 404, "not_found"),
        ("GET", "/tsfm/forecast", 405, "method_not_allowed"),
        ("POST", "/tsfm/models", 405, "method_not_allowed"),
    ],
)
async def test_wrong_path_or_method_is_an_error_in_json_and_no_redirect(
    bench: Bench, method: str, path: str, status: int, code: str
) -> None:
    response = await bench.http.request(method, path, headers={"host": "elsewhere.example"})

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert "location" not in response.headers


async def test_answer_names_the_covariates_that_it_does_not_use(bench: Bench) -> None:
    with_volume = example(x_past={"volume": [1.0] * 32})
    one = (await bench.post(with_volume)).json()["meta"]
    other = (await bench.post(example())).json()["meta"]

    assert one["covariates_ignored"] == ["volume"]
    assert "covariates_ignored" not in other
