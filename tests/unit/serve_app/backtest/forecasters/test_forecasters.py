import numpy as np
import pytest

from runner.baseline.ewma_bands import ewma_bands
from serve_app.backtest.forecasters.forecasters import BASELINE, OUTSIDE, BaselineSettings, forecast
from serve_app.backtest.forecasters.references import REFERENCES
from serve_app.backtest.scoring.scores import LEVELS
from tests.support.builders import LOGIT, make_config
from tests.support.markets import made_windows, rough_prices

PRICES = rough_prices(3, 60)
WINDOWS = made_windows(PRICES[:, :48], PRICES[:, 48:])
SETTINGS = BaselineSettings(make_config().baseline, LOGIT)


def test_the_baseline_is_the_service_s_own() -> None:
    bands = forecast(BASELINE, WINDOWS, SETTINGS)
    served = ewma_bands(WINDOWS.past, 12, LEVELS, LOGIT, SETTINGS.section)

    np.testing.assert_array_equal(bands, served)


@pytest.mark.parametrize("name", [*REFERENCES, *OUTSIDE])
def test_every_reference_answers_for_every_window(name: str) -> None:
    bands = forecast(name, WINDOWS, SETTINGS)

    assert bands.shape == (3, 12, 5)
    assert (np.diff(bands, axis=2) >= 0).all()
    assert bands.min() >= 0
    assert bands.max() <= 1


def test_statsforecast_s_naive_is_a_random_walk_by_hand() -> None:
    y = np.array([[0.4, 0.5, 0.4, 0.5, 0.4]])
    bands = forecast(OUTSIDE[0], made_windows(y, np.zeros((1, 4))), SETTINGS)

    np.testing.assert_allclose(bands[0, :, 2], 0.4)
    np.testing.assert_allclose(bands[0, 3, 3] - 0.4, 1.2815515655 * 0.1 * 2, rtol=1e-6)


def test_a_price_that_never_moved_has_finite_bands_everywhere() -> None:
    still = made_windows(np.full((1, 48), 0.3), np.full((1, 12), 0.3))

    for name in (*REFERENCES, *OUTSIDE):
        assert np.isfinite(forecast(name, still, SETTINGS)).all()
