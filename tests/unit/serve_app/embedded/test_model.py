from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.embedded.model import (
    MIN_POINTS,
    EmbeddedModel,
    ModelFailedError,
    SeriesError,
    at_levels,
)

DECILES = tuple(q / 10 for q in range(1, 10))
LEVELS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


@pytest.fixture(scope="module")
def model():
    return EmbeddedModel()


def wander(scale, points=288, seed=3):
    return np.cumsum(np.random.default_rng(seed).normal(0, scale, points))


def test_forecast_has_ordered_levels_at_every_step(model):
    paths = model.forecast([wander(0.1), wander(0.1, seed=4)], 100, LEVELS)  # beyond its own 48

    assert paths.shape == (2, 100, 7)
    assert np.isfinite(paths).all()
    assert (np.diff(paths, axis=2) >= 0).all()


def test_forecast_does_not_depend_on_the_other_series_of_a_batch(model):
    series = wander(0.1)
    others = [wander(0.5, points, seed=points) for points in (9, 40, 700)]

    alone = model.forecast([series], 12, LEVELS)[0]
    together = model.forecast([*others, series], 12, LEVELS)[-1]

    np.testing.assert_allclose(together, alone, atol=1e-5 * np.ptp(series))


def test_forecast_moves_with_the_level_of_the_series(model):
    series = wander(0.1)

    low = model.forecast([series], 12, LEVELS)
    high = model.forecast([series + 1e6], 12, LEVELS)

    np.testing.assert_allclose(high - 1e6, low, atol=1e-3 * np.ptp(series))


def test_series_that_is_too_short_is_named(model):
    with pytest.raises(SeriesError, match=r"^series 1: needs at least 8 points$"):
        model.forecast([np.zeros(MIN_POINTS), np.zeros(MIN_POINTS - 1)], 3, LEVELS)


@pytest.mark.parametrize("value", [1e31, -1e31, np.inf, np.nan])
def test_value_that_32_bits_cannot_hold_is_refused(model, value):
    with pytest.raises(SeriesError, match="under 1e"):
        model.forecast([np.append(np.zeros(20), value)], 3, LEVELS)


def test_failure_inside_the_model_names_the_exception(model):
    with pytest.raises(ModelFailedError, match=r"^ValueError$"):
        model.forecast([np.zeros(20)], 0, LEVELS)


def test_known_levels_are_unchanged_in_any_order():
    paths = np.array([[0.0, 1.0, 1.0, 5.0, 5.5, 6.0, 7.0, 8.0, 10.0]])

    np.testing.assert_allclose(at_levels(paths, DECILES, DECILES), paths, rtol=1e-12)
    np.testing.assert_allclose(at_levels(paths, DECILES, (0.9, 0.1, 0.5)), [[10, 0, 5.5]])


@pytest.mark.parametrize("level", [0.001, 0.05, 0.1, 0.33, 0.5, 0.777, 0.9, 0.975, 0.999])
def test_quantiles_of_a_normal_distribution_are_exact_at_any_level(level):
    normal = NormalDist(mu=2.0, sigma=3.0)
    paths = np.array([normal.inv_cdf(q) for q in DECILES])

    found = at_levels(paths, DECILES, (level,))

    assert found[0] == pytest.approx(normal.inv_cdf(level), rel=1e-9)


@given(
    st.lists(st.floats(-100, 100), min_size=9, max_size=9),
    st.lists(st.floats(0.001, 0.999), min_size=2, max_size=20),
)
def test_other_levels_keep_the_order(values, levels):
    paths = np.sort(np.array(values))

    found = at_levels(paths, DECILES, sorted(levels))

    assert (np.diff(found) >= -1e-9).all()
