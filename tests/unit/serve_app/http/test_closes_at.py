"""``closes_at``: no step after the close of a market is forecast."""

from typing import Any

import pytest

from tests.support.bench import Bench, example
from tests.support.builders import make_answer, make_bands, walk
from tsfm_client import request_body

AS_OF = "2026-02-20T12:00:00Z"


async def ask(path: str = "/tsfm/forecast", **changes: Any) -> tuple[Bench, Any]:
    bench = Bench()
    bench.model.outcome = make_answer(bands=make_bands(3))
    body = example(**{"y": walk(60).tolist(), "model": {"model_name": "chronos2"}, **changes})
    return bench, (await bench.http.post(path, json=body)).json()


async def test_horizon_ends_with_the_last_step_before_the_close() -> None:
    covariates: dict[str, Any] = {"x_past": {"v": [1.0] * 60}, "x_future": {"v": [1.0] * 12}}
    bench, answer = await ask(closes_at="2026-02-20T13:19:59+01:00", **covariates)

    assert answer["horizon_steps"] == 3
    assert [len(path) for path in answer["yhat_q"].values()] == [3, 3, 3]
    assert answer["meta"]["warnings"] == ["horizon_cut_at_close"]
    (asked,) = bench.model.requests
    assert asked.key.horizon_steps == 3
    assert asked.x_future["v"].size == 3


@pytest.mark.parametrize("closes_at", [None, "2026-02-20T12:15:00Z", "2027-02-20T12:00:00Z"])
async def test_horizon_that_ends_before_the_close_is_whole(closes_at: str | None) -> None:
    _, answer = await ask(horizon_steps=3, closes_at=closes_at)

    assert (answer["horizon_steps"], answer["meta"]["warnings"]) == (3, [])


async def test_newest_price_of_a_market_that_is_closing_is_checked() -> None:
    bench, answer = await ask("/tsfm/check", closes_at=AS_OF, newest_steps=3)

    assert answer["horizon_steps"] == 3
    assert answer["check"]["price"] is not None
    assert bench.model.requests[0].key.horizon_steps == 3


@pytest.mark.parametrize(
    "closes_at", ["2026-02-20T11:59:59Z", AS_OF, "2026-02-20T12:04:59Z", "2026-02-20T13:00", 5]
)
async def test_market_without_a_step_left_is_refused_by_field(closes_at: Any) -> None:
    _, answer = await ask(closes_at=closes_at)

    assert answer["error"]["code"] == "invalid_request"
    assert answer["error"]["detail"][0]["path"] == "closes_at"


def test_client_sends_the_close_as_a_time() -> None:
    body = request_body("m", [0.4, 0.5], as_of=AS_OF, closes_at=1_771_592_400)

    assert body["closes_at"] == "2026-02-20T13:00:00+00:00"
