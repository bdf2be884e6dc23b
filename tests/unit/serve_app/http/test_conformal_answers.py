"""Calibrated paths beside the raw ones, as callers see them."""

from typing import Any

import numpy as np
import pytest

from runner.calibration.state import ConformalState, StepFactors
from runner.types import FallbackReason, ModelFailure
from serve_app.http.requests import format_level
from tests.support.bench import Bench, example
from tests.support.builders import make_answer, make_bands, make_config

LEVELS = ("0.1", "0.5", "0.9")
NULLS = dict.fromkeys(("q10", "q50", "q90", "target_coverage", "sample_size", "segment"))


def track(lower: float, upper: float, samples: int = 400) -> StepFactors:
    return StepFactors(np.tile([lower, upper], (12, 1)), np.full(12, samples))


STATE = ConformalState(
    0.8,
    {"fracast-0": {"all": track(2.0, 0.5)}, "ewma": {"all": track(0.5, 3.0, samples=300)}},
)
TOO_LITTLE = ConformalState(0.8, {"fracast-0": {"all": track(2.0, 0.5, samples=199)}})


@pytest.fixture
def calibrated() -> Bench:
    return Bench(conformal=STATE)  # its model answers 0.3, 0.45, 0.6 at every step


async def ask(bench: Bench, **changes: Any) -> dict[str, Any]:
    response = await bench.post(example(**{"conformal": True, **changes}))
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def test_calibrated_paths_come_beside_the_raw_ones(calibrated: Bench) -> None:
    body = await ask(calibrated)

    assert list(body["yhat_q_conformal"]) == list(LEVELS)
    for level, expected in zip(LEVELS, (0.3, 0.45, 0.6), strict=True):
        assert body["yhat_q"][level] == pytest.approx([expected] * 12)
    for level, expected in zip(LEVELS, (0.15, 0.45, 0.525), strict=True):
        assert body["yhat_q_conformal"][level] == pytest.approx([expected] * 12)
    assert "conformal_uncalibrated" not in body["meta"]["warnings"]
    assert body["conformal_last_step"] == {
        "q10": pytest.approx(0.15),
        "q50": pytest.approx(0.45),
        "q90": pytest.approx(0.525),
        "target_coverage": 0.8,
        "sample_size": 400,
        "segment": "all",
    }


async def test_configuration_sets_the_default_of_the_option() -> None:
    bench = Bench(make_config(conformal={"enabled_by_default": True}), STATE)

    bodies = [await ask(bench, conformal=said) for said in (..., None, True, False)]

    assert ["yhat_q_conformal" in body for body in bodies] == [True, True, True, False]


@pytest.mark.parametrize("state", [None, TOO_LITTLE], ids=["no state", "too few outcomes"])
async def test_missing_calibration_gives_nulls_and_a_warning(state: ConformalState | None) -> None:
    body = await ask(Bench(conformal=state))

    assert body["yhat_q_conformal"] is None
    assert body["conformal_last_step"] == NULLS
    assert "conformal_uncalibrated" in body["meta"]["warnings"]
    assert len(body["yhat_q"]["0.5"]) == 12


async def test_baselines_answer_is_calibrated_as_the_baselines(calibrated: Bench) -> None:
    body = await ask(calibrated, liquidity_bucket="low")

    assert body["meta"]["runtime"] == "baseline"
    assert body["conformal_last_step"]["sample_size"] == 300
    np.testing.assert_allclose([body["yhat_q_conformal"][k][3] for k in LEVELS], [0.375, 0.45, 0.9])


async def test_expired_answer_of_the_model_is_calibrated_as_the_models(calibrated: Bench) -> None:
    await ask(calibrated)
    calibrated.clock.now += 100
    calibrated.model.outcome = ModelFailure(
        FallbackReason.RUNTIME_ERROR, make_answer().breaker_state
    )

    body = await ask(calibrated)

    assert body["meta"]["cache_stale"] is True
    assert body["conformal_last_step"]["sample_size"] == 400


async def test_cached_raw_answer_is_calibrated_on_request(calibrated: Bench) -> None:
    await ask(calibrated, conformal=False)

    body = await ask(calibrated)

    assert body["meta"]["cache_hit"] is True
    assert body["yhat_q_conformal"]["0.9"] == pytest.approx([0.525] * 12)
    assert len(calibrated.model.requests) == 1


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([0.05, 0.5, 0.95], {"q10": None, "q50": 0.45, "q90": None}),
        ([0.4, 0.6], {"q10": None, "q50": None, "q90": None}),
    ],
)
async def test_last_step_names_only_levels_that_were_asked_for(
    calibrated: Bench, levels: list[float], expected: dict[str, float | None]
) -> None:
    calibrated.model.outcome = make_answer(bands=make_bands(12, len(levels)))

    body = await ask(calibrated, quantiles=levels)

    assert list(body["yhat_q_conformal"]) == [format_level(level) for level in levels]
    assert {k: body["conformal_last_step"][k] for k in expected} == pytest.approx(expected)
    assert body["conformal_last_step"]["sample_size"] == 400


async def test_batch_calibrates_each_of_its_requests_that_asks(calibrated: Bench) -> None:
    requests = [example(conformal=True), example(), example(conformal=True, liquidity_bucket="low")]

    response = await calibrated.http.post("/tsfm/forecast/batch", json={"requests": requests})

    answers = [result["ok"] for result in response.json()["results"]]
    sizes = [a["conformal_last_step"]["sample_size"] for a in answers if "yhat_q_conformal" in a]
    assert sizes == [400, 300]
    assert "yhat_q_conformal" not in answers[1]
