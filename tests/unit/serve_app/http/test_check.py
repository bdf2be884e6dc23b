"""Checks over HTTP: both routes, and `newest_steps` on the routes of forecasts."""

from typing import Any

import numpy as np
import pytest

from runner.calibration.coverage import Learned, Rolling
from runner.calibration.state import ConformalState
from tests.support.bench import Bench
from tests.support.bench import example as short_example
from tests.support.builders import make_answer, make_bands

Y = [*[0.41, 0.42] * 4, *short_example()["y"]]
NOTHING = {"price": 0.43, "p_value": None, "held_share": None}


def example(**changes: Any) -> dict[str, Any]:
    """The usual example, long enough for the model also without its newest steps."""
    return short_example(**{"y": Y, **changes})


@pytest.fixture
def asked(bench: Bench) -> Bench:
    """A model whose band is 0.3, 0.45, 0.6 on 12 steps."""
    bench.model.outcome = make_answer(bands=make_bands(12))
    return bench


async def check_of(bench: Bench, path: str = "/tsfm/check", **changes: Any) -> Any:
    answer = await bench.http.post(path, json=example(**changes))
    assert answer.status_code == 200, answer.text
    return answer.json().get("check")


async def test_newest_price_is_checked_against_a_forecast_without_it(asked: Bench) -> None:
    answer = (await asked.http.post("/tsfm/check", json=example())).json()

    assert answer["as_of_ts"] == "2026-02-20T11:55:00Z"
    assert answer["meta"]["input_len"] == 39
    assert answer["check"] == {
        **NOTHING,
        "breach": "none",
        "beyond_widths": 0.0,
        "run_steps": 0,
        "severity": "none",
    }


async def test_price_outside_is_a_breach_and_several_are_a_run(asked: Bench) -> None:
    y = [*example()["y"][:-2], 0.9, 0.9]

    one = await check_of(asked, y=y)
    two = await check_of(asked, y=y, newest_steps=2)

    assert (one["breach"], one["severity"]) == ("above", "breach")
    assert (two["run_steps"], two["severity"]) == (2, "run")
    assert one["beyond_widths"] == pytest.approx(1.0)


async def test_forecast_is_checked_where_it_is_asked_for_and_a_check_need_not_be(
    asked: Bench,
) -> None:
    assert await check_of(asked, "/tsfm/forecast") is None
    assert (await check_of(asked, "/tsfm/forecast", newest_steps=1))["price"] == 0.43
    assert await check_of(asked, "/tsfm/check", newest_steps=0) is None


async def test_forecast_made_one_step_earlier_is_used(asked: Bench) -> None:
    earlier = example(as_of_ts="2026-02-20T11:55:00Z", y=example()["y"][:-1])
    await asked.http.post("/tsfm/forecast", json=earlier)
    answer = (await asked.http.post("/tsfm/check", json=example())).json()

    assert answer["meta"]["cache_hit"] is True
    assert answer["check"]["price"] == 0.43
    assert len(asked.model.requests) == 1


async def test_same_bytes_again_are_answered_with_the_check(asked: Bench) -> None:
    first, again = await check_of(asked), await check_of(asked)

    assert first == again
    assert len(asked.model.requests) == 1


async def test_batch_has_a_check_in_each_answer(asked: Bench) -> None:
    items = [example(), example(newest_steps=2), example(newest_steps=13)]
    answer = await asked.http.post("/tsfm/check/batch", json={"requests": items})

    one, two, wrong = answer.json()["results"]
    assert one["ok"]["check"]["price"] == two["ok"]["check"]["price"] == 0.43
    assert one["ok"]["as_of_ts"] > two["ok"]["as_of_ts"]
    assert wrong["error"]["detail"][0]["path"] == "newest_steps"


async def test_baseline_is_checked_too(asked: Bench) -> None:
    answer = (await asked.http.post("/tsfm/check", json=example(liquidity_bucket="low"))).json()

    assert answer["meta"]["fallback_reason"] == "low_liquidity"
    assert answer["check"]["price"] == 0.43


async def test_learned_figures_are_in_the_answer(asked: Bench) -> None:
    rolling = Rolling().after_scores(np.zeros(900, dtype=np.int64), np.linspace(0, 2, 900))
    rolling = rolling.after_breaches(np.arange(100) < 40)
    learned = Learned(ConformalState(0.8), {("fracast-0", "all"): rolling})
    asked.service.answers.calibrate_by(learned)

    check = await check_of(asked, y=[*example()["y"][:-1], 0.9])

    assert check["p_value"] == {"value": 0.0, "sample_size": 824, "segment": "all"}
    assert check["held_share"]["value"] == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("newest_steps", [-1, 13, 1.5, "1", True])
async def test_number_of_steps_is_limited(asked: Bench, newest_steps: object) -> None:
    answer = await asked.http.post("/tsfm/check", json=example(newest_steps=newest_steps))

    assert answer.status_code == 422
    assert answer.json()["error"]["detail"][0]["path"] == "newest_steps"


async def test_series_without_a_past_is_refused(asked: Bench) -> None:
    answer = await asked.http.post("/tsfm/check", json=example(y=[0.4, 0.5]))

    assert answer.status_code == 422
    assert answer.json()["error"]["message"] == "y: Send at least 2 values before the newest steps."
