from statistics import NormalDist

import numpy as np
import pytest

from runner.baseline.ewma_bands import ewma_bands
from runner.types import FloatArray
from serve_app.backtest.forecasters import BASELINE, FLAT, REFERENCES, STATSFORECAST, forecast
from serve_app.backtest.scores import LEVELS
from tests.support.builders import LOGIT, make_config
from tests.support.markets import made_windows, rough_prices

CONFIG = make_config()
Z = NormalDist().inv_cdf(0.9)


def bands_of(name: str, past: FloatArray, horizon_steps: int, step_s: float = 300.0) -> FloatArray:
    future = np.zeros((len(past), horizon_steps))
    return forecast(name, made_windows(past, future, step_s), CONFIG)


LOGIT_06 = float(np.log(0.6 / 0.4))


def expit(y: float) -> float:
    return float(1 / (1 + np.exp(-y)))


def test_the_baseline_is_that_of_the_service() -> None:
    past = rough_prices(3, 48)

    expected = ewma_bands(past, 12, LEVELS, LOGIT, CONFIG.baseline)
    np.testing.assert_array_equal(bands_of(BASELINE, past, 12), expected)


@pytest.mark.parametrize("name", [*REFERENCES, *STATSFORECAST])
def test_every_reference_gives_ordered_bands_inside_the_bounds(name: str) -> None:
    still = np.full((1, 300), 0.3)
    bands = bands_of(name, np.vstack([rough_prices(3, 300), still]), 7)

    assert bands.shape == (4, 7, 5)
    assert (np.diff(bands, axis=2) >= 0).all()
    assert bands.min() >= 0
    assert bands.max() <= 1


def test_the_naive_forecast_of_statsforecast_is_a_random_walk() -> None:
    bands = bands_of(STATSFORECAST[0], np.array([[0.4, 0.5, 0.4, 0.5, 0.4]]), 4)

    np.testing.assert_allclose(bands[0, :, 2], 0.4)
    np.testing.assert_allclose(bands[0, 3, 3] - 0.4, Z * 0.1 * 2, rtol=1e-6)


def test_the_random_walk_by_hand() -> None:
    increment = LOGIT_06**2  # both increments have this square, so their EWMA has it too
    bands = bands_of("random walk", np.array([[0.5, 0.6, 0.5]]), 4)

    assert bands[0, 3, 1:4].tolist() == pytest.approx(
        [expit(-2 * Z * np.sqrt(increment)), 0.5, expit(2 * Z * np.sqrt(increment))]
    )


def test_the_flat_recipe_by_hand() -> None:
    level = 0.2 * LOGIT_06
    sigma = np.sqrt(12 * 0.2 * LOGIT_06**2)
    bands = bands_of(FLAT, np.array([[0.5, 0.6]]), 2)

    assert bands[0, 0, 1:4].tolist() == pytest.approx(
        [expit(level - Z * sigma), expit(level), expit(level + Z * sigma)]
    )
    assert bands[0, 1].tolist() == bands[0, 0].tolist()


def test_the_flat_recipe_has_width_limits() -> None:
    calm = bands_of(FLAT, np.full((1, 50), 0.4), 1)
    wild = bands_of(FLAT, np.tile([0.001, 0.999], (1, 20)), 1)

    assert calm[0, 0, 1:4].tolist() == pytest.approx([0.39, 0.4, 0.41])
    assert wild[0, 0, 3] - wild[0, 0, 1] <= 0.9 + 1e-12
