import sys
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import ConfigError
from serve_app.embedded.model import (
    MIN_POINTS,
    EmbeddedModel,
    ModelFailedError,
    SeriesError,
    at_levels,
    left_padded,
    require_extra,
)

DECILES = tuple(q / 10 for q in range(1, 10))
LEVELS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


@pytest.fixture(scope="module")
def model():
    return EmbeddedModel()


def wander(scale, points=288, seed=3):
    return np.cumsum(np.random.default_rng(seed).normal(0, scale, points))


def width(paths):
    """Mean distance between the outermost levels."""
    return float((paths[..., -1] - paths[..., 0]).mean())


def test_forecast_has_one_row_per_step_and_one_column_per_level(model):
    paths = model.forecast([wander(0.1), wander(0.1, seed=4)], 12, LEVELS)

    assert paths.shape == (2, 12, 7)
    assert np.isfinite(paths).all()


def test_levels_are_ordered_at_every_step(model):
    batch = [wander(0.1, seed=seed) for seed in range(8)]

    paths = model.forecast(batch, 48, LEVELS)

    assert (np.diff(paths, axis=2) >= 0).all()


def test_more_volatile_series_gets_wider_bands(model):
    calm, lively = model.forecast([wander(0.01), wander(0.3)], 12, LEVELS)

    assert width(lively) > 5 * width(calm)


def test_bands_widen_with_the_horizon(model):
    paths = model.forecast([wander(0.1, seed=seed) for seed in range(6)], 12, LEVELS)

    assert width(paths[:, -1]) > 1.5 * width(paths[:, 0])


def test_season_is_followed_rather_than_averaged_away(model):
    steps = np.arange(300)
    season = np.sin(2 * np.pi * steps / 24)

    median = model.forecast([season[:288]], 12, (0.5,))[0, :, 0]

    error = np.abs(median - season[288:]).mean()
    assert error < 0.5 * np.abs(season[288:] - season[:288].mean()).mean()


def test_constant_series_stays_where_it_is(model):
    paths = model.forecast([np.full(40, 0.3)], 3, LEVELS)

    np.testing.assert_allclose(paths, 0.3, atol=1e-3)


def test_same_series_gets_the_same_forecast_whatever_it_is_batched_with(model):
    series = wander(0.1)
    company = [wander(0.5, points, seed=points) for points in (9, 40, 700)]

    alone = model.forecast([series], 12, LEVELS)[0]
    together = model.forecast([*company, series], 12, LEVELS)[-1]

    np.testing.assert_allclose(together, alone, atol=1e-5 * np.ptp(series))


def test_forecast_moves_with_the_level_of_the_series(model):
    series = wander(0.1)

    low = model.forecast([series], 12, LEVELS)
    high = model.forecast([series + 1e6], 12, LEVELS)

    np.testing.assert_allclose(high - 1e6, low, atol=1e-3 * np.ptp(series))


def test_steps_beyond_the_models_own_horizon_are_rolled_out(model):
    assert np.isfinite(model.forecast([wander(0.1)], 100, (0.5,))).all()


def test_series_that_is_too_short_is_named(model):
    with pytest.raises(SeriesError, match=r"^series 1: needs at least 8 points$"):
        model.forecast([np.zeros(MIN_POINTS), np.zeros(MIN_POINTS - 1)], 3, LEVELS)


@pytest.mark.parametrize("value", [1e31, -1e31, np.inf, np.nan])
def test_value_that_32_bits_cannot_hold_is_refused(model, value):
    with pytest.raises(SeriesError, match="under 1e"):
        model.forecast([np.append(np.zeros(20), value)], 3, LEVELS)


def test_failure_inside_the_model_says_what_kind_it_was(model):
    with pytest.raises(ModelFailedError, match=r"^ValueError$"):
        model.forecast([np.zeros(20)], 0, LEVELS)


@pytest.mark.parametrize("package", ["torch", "fracast"])
def test_missing_extra_is_a_config_error_with_the_command_that_helps(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(ConfigError, match=rf"{package}: pip install '\.\[embedded\]'"):
        require_extra()


def test_known_levels_are_given_as_they_are():
    paths = np.array([[0.0, 1.0, 1.0, 5.0, 5.5, 6.0, 7.0, 8.0, 10.0]])

    np.testing.assert_allclose(at_levels(paths, DECILES, DECILES), paths, rtol=1e-12)


@pytest.mark.parametrize("level", [0.001, 0.05, 0.1, 0.33, 0.5, 0.777, 0.9, 0.975, 0.999])
def test_normal_distribution_is_met_exactly_at_any_level(level):
    normal = NormalDist(mu=2.0, sigma=3.0)
    paths = np.array([normal.inv_cdf(q) for q in DECILES])

    found = at_levels(paths, DECILES, (level,))

    assert found[0] == pytest.approx(normal.inv_cdf(level), rel=1e-9)


def test_levels_may_be_asked_for_in_any_order():
    paths = np.arange(9.0)

    np.testing.assert_allclose(at_levels(paths, DECILES, (0.9, 0.1, 0.5)), [8, 0, 4])


@given(
    st.lists(st.floats(-100, 100), min_size=9, max_size=9),
    st.lists(st.floats(0.001, 0.999), min_size=2, max_size=20),
)
def test_other_levels_keep_the_order(values, levels):
    paths = np.sort(np.array(values))

    found = at_levels(paths, DECILES, sorted(levels))

    assert (np.diff(found) >= -1e-9).all()


def test_padding_ends_every_series_at_the_same_place():
    padded = left_padded([np.array([1.0, 2.0, 3.0]), np.array([9.0])])

    np.testing.assert_array_equal(padded, [[1, 2, 3], [np.nan, np.nan, 9]])
