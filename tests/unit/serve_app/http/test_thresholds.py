"""``thresholds``: the probability of a price above each of them comes with the answer."""

from typing import Any

import numpy as np
import pytest

from runner.calibration.state import ConformalState, StepFactors
from tests.support.bench import Bench, example
from tests.support.builders import make_answer, make_bands
from tsfm_client import Forecast, request_body

WIDER = ConformalState(
    0.8, {"fracast-0": {"all": StepFactors(np.full((12, 2), 2.0), np.full(12, 500))}}
)


async def above(bench: Bench, **changes: Any) -> dict[str, list[float]]:
    bench.model.outcome = make_answer(bands=make_bands(12))  # 0.3, 0.45, 0.6
    response = await bench.post(example(**changes))
    assert response.status_code == 200, response.text
    answer = Forecast(response.json())
    return {f"{k:g}": path.round(4).tolist() for k, path in answer.probability_above.items()}


async def test_each_step_has_the_probability_above_each_threshold(bench: Bench) -> None:
    found = await above(bench, thresholds=[0.3, 0.45, 0.525])

    assert found == {"0.3": [0.9] * 12, "0.45": [0.5] * 12, "0.525": [0.2608] * 12}
    assert await above(bench) == {}


async def test_calibrated_paths_are_used_where_the_answer_has_them() -> None:
    calibrated = Bench(conformal=WIDER)

    asked = await above(calibrated, thresholds=[0.6], conformal=True)
    raw = await above(calibrated, thresholds=[0.6], conformal=False)

    assert asked["0.6"] == [0.2608] * 12  # halfway between 0.45 and 0.75
    assert raw["0.6"] == [0.1] * 12


@pytest.mark.parametrize(
    ("thresholds", "path"),
    [
        ([], "thresholds"),
        ([0.5] * 17, "thresholds"),
        ([0.5, 1.0], "thresholds.1"),
        ([0.0], "thresholds.0"),
        (["0.5"], "thresholds.0"),
        (0.5, "thresholds"),
    ],
)
async def test_wrong_thresholds_are_refused_by_their_place(
    bench: Bench, thresholds: Any, path: str
) -> None:
    error = (await bench.post(example(thresholds=thresholds))).json()["error"]

    assert error["code"] == "invalid_request"
    assert error["detail"][0]["path"] == path


async def test_thresholds_of_a_single_quantile_are_refused(bench: Bench) -> None:
    error = (await bench.post(example(thresholds=[0.5], quantiles=[0.5]))).json()["error"]

    assert error["detail"][0]["path"] == "thresholds"


def test_client_sends_thresholds_as_numbers() -> None:
    body = request_body("m", [0.4, 0.5], as_of="2026-02-20T12:00Z", thresholds=(1, 0.5))

    assert body["thresholds"] == [1.0, 0.5]
