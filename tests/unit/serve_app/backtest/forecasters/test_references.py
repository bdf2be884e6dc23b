from statistics import NormalDist

import numpy as np
import pytest

from serve_app.backtest.forecasters.references import (
    REFERENCES,
    flat_recipe,
    random_walk,
    seasonal_naive,
)
from serve_app.backtest.scoring.scores import LEVELS
from tests.support.markets import rough_prices

STEP_S = np.full(1, 300.0)
Z = NormalDist().inv_cdf(0.9)


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def expit(y: float) -> float:
    return float(1 / (1 + np.exp(-y)))


@pytest.mark.parametrize("name", REFERENCES)
def test_every_reference_gives_ordered_bands_inside_the_bounds(name: str) -> None:
    prices = rough_prices(20, 300)
    bands = REFERENCES[name](prices, 7, LEVELS, np.full(20, 300.0))

    assert bands.shape == (20, 7, 5)
    assert (np.diff(bands, axis=2) >= 0).all()
    assert bands.min() >= 0
    assert bands.max() <= 1


def test_the_random_walk_by_hand() -> None:
    y = np.array([[0.5, 0.6, 0.5]])
    increment = logit(0.6) ** 2  # both increments have this square, so their EWMA has it too
    bands = random_walk(y, 4, np.array([0.1, 0.5, 0.9]), STEP_S)

    assert bands[0, 3].tolist() == pytest.approx(
        [expit(-2 * Z * np.sqrt(increment)), 0.5, expit(2 * Z * np.sqrt(increment))]
    )


def test_the_flat_recipe_by_hand() -> None:
    y = np.array([[0.5, 0.6]])
    level = 0.2 * logit(0.6)
    sigma = np.sqrt(12 * 0.2 * logit(0.6) ** 2)
    bands = flat_recipe(y, 2, np.array([0.1, 0.5, 0.9]), STEP_S)

    assert bands[0, 0].tolist() == pytest.approx(
        [expit(level - Z * sigma), expit(level), expit(level + Z * sigma)]
    )
    assert bands[0, 1].tolist() == bands[0, 0].tolist()


def test_the_flat_recipe_is_never_narrower_than_its_limit() -> None:
    bands = flat_recipe(np.full((1, 50), 0.4), 1, np.array([0.1, 0.5, 0.9]), STEP_S)

    assert bands[0, 0].tolist() == pytest.approx([0.39, 0.4, 0.41])


def test_the_flat_recipe_is_never_wider_than_its_limit() -> None:
    wild = np.tile([0.001, 0.999], (1, 20))
    low, _, high = flat_recipe(wild, 1, np.array([0.1, 0.5, 0.9]), STEP_S)[0, 0]

    assert high - low <= 0.9 + 1e-12


def test_seasonal_naive_repeats_yesterday_with_the_spread_of_days() -> None:
    day = np.linspace(0.2, 0.4, 24)
    two_days = np.concatenate([day, day + 0.1])[None]
    bands = seasonal_naive(two_days, 3, np.array([0.1, 0.5, 0.9]), np.array([3600.0]))

    np.testing.assert_allclose(bands[0, :, 1], day[:3] + 0.1)
    np.testing.assert_allclose(bands[0, :, 2] - bands[0, :, 1], 0.1 * Z)


def test_seasonal_naive_without_a_whole_day_is_the_last_value() -> None:
    bands = seasonal_naive(np.array([[0.2, 0.3]]), 1, np.array([0.1, 0.9]), np.array([3600.0]))

    assert bands.ravel().tolist() == [0.3, 0.3]
