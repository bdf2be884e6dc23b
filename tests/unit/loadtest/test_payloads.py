"""Requests: the same for the same seed, never two alike, and with series like those of markets."""

from itertools import islice, pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.payloads import Shape, batch_body, encode, forecast_bodies, windows

SHAPE = Shape()


def series_of(body: bytes) -> list[float]:
    y: list[float] = orjson.loads(body)["y"]
    return y


def test_a_body_holds_what_the_service_asks_for():
    body = orjson.loads(forecast_bodies(1, Shape(points=50, liquidity="low"))[0])

    assert len(body.pop("y")) == 50
    assert body == {
        "market_id": "m-0-0",
        "as_of_ts": "2026-02-20T12:00:00Z",
        "freq": "5m",
        "horizon_steps": 12,
        "quantiles": [0.1, 0.5, 0.9],
        "model": {"provider": "tollama", "model_name": "chronos"},
        "liquidity_bucket": "low",
    }


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not():
    assert forecast_bodies(3, SHAPE, 7) == forecast_bodies(3, SHAPE, 7)
    assert not set(forecast_bodies(3, SHAPE, 7)) & set(forecast_bodies(3, SHAPE, 8))


def test_a_market_does_not_depend_on_how_many_there_are():
    assert forecast_bodies(9, SHAPE)[:3] == forecast_bodies(3, SHAPE)


def test_no_two_markets_share_a_series():
    series = {tuple(series_of(body)) for body in forecast_bodies(2000, SHAPE)}

    assert len(series) == 2000


@given(seed=st.integers(0, 10_000), points=st.integers(2, 400))
def test_every_price_is_a_tick_inside_the_bounds(seed: int, points: int):
    y = series_of(forecast_bodies(1, Shape(points=points), seed)[0])

    assert len(y) == points
    assert all(0 <= price <= 1 and price == round(price, 2) for price in y)


def test_markets_are_sticky_some_jump_and_many_live_near_a_bound():
    series = [series_of(body) for body in forecast_bodies(300, SHAPE)]
    steps = [round(abs(b - a), 2) for y in series for a, b in pairwise(y[20:])]

    assert 0.7 < steps.count(0.0) / len(steps) < 0.95
    assert any(step >= 0.08 for step in steps)
    assert 0.3 < sum(not 0.1 < y[-1] < 0.9 for y in series) / len(series) < 0.7


def test_the_next_cycle_drops_the_oldest_price_and_comes_a_step_later():
    first, second = islice(windows(0, SHAPE), 2)

    assert second.cents[:-1] == first.cents[1:]
    assert (second.end - first.end).total_seconds() == 300


@pytest.mark.parametrize("number", [5, 77])
def test_cycles_of_one_market_give_different_bodies(number: int):
    bodies = [encode(window, SHAPE) for window in islice(windows(number, SHAPE), 50)]

    assert len(set(bodies)) == 50


def test_a_batch_holds_the_requests_in_order():
    bodies = forecast_bodies(3, SHAPE)

    assert orjson.loads(batch_body(bodies)) == {"requests": [orjson.loads(b) for b in bodies]}
