from typing import Any

import numpy as np
import pytest

from runner.forecast.resolved_request import RegularSeries, regularise
from runner.types import FallbackReason
from tests.support.builders import walk
from tests.unit.runner.forecast.forecasters import resolved

NAN = np.nan


def regular(y: list[float], times: list[float] | None = None, max_steps: int = 10) -> RegularSeries:
    y_ts = None if times is None else np.array(times)
    return regularise(np.array(y), y_ts, {}, step_s=300, max_steps=max_steps)


@pytest.mark.parametrize(
    ("y", "times", "filled", "gap_minutes"),
    [
        ([0.1, 0.2, 0.3], None, [0.1, 0.2, 0.3], 0.0),
        ([0.1, NAN, NAN, 0.4], None, [0.1, 0.1, 0.1, 0.4], 10.0),
        ([NAN, NAN, 0.3, 0.4], None, [0.3, 0.4], 0.0),  # nothing is known before the first value
        ([0.1, 0.2, NAN, NAN, NAN], None, [0.1, 0.2, 0.2, 0.2, 0.2], 15.0),
        ([0.1, 0.2, 0.3, 0.4], [0, 290, 600, 1500], [0.1, 0.2, 0.3, 0.3, 0.3, 0.4], 10.0),
        ([0.1, 0.2, 0.3, 0.4], [0, 300.000001, 599.999999, 900], [0.1, 0.2, 0.3, 0.4], 0.0),
        ([0.1, 0.4], [0, 3e8], [0.1] * 9 + [0.4], 45.0),  # no array for the long time between
        (np.linspace(0, 1, 21).tolist(), None, np.linspace(0.55, 1, 10).tolist(), 0.0),
    ],
)
def test_series_is_on_the_grid_that_ends_at_the_last_time_with_gaps_filled_forward(
    y: list[float], times: list[float] | None, filled: list[float], gap_minutes: float
) -> None:
    series = regular(y, times)

    np.testing.assert_allclose(series.y_prob, filled)
    assert series.longest_gap_minutes == gap_minutes
    assert np.isnan(series.observed_prob).sum() == series.gaps_filled
    observed = np.isfinite(series.observed_prob)
    assert observed.sum() == series.points
    np.testing.assert_allclose(series.y_prob[observed], series.observed_prob[observed])


def test_covariates_keep_their_own_values_where_the_price_is_missing() -> None:
    x = {"volume": np.array([1.0, 2.0, 3.0])}

    series = regularise(np.array([NAN, 0.2, NAN]), None, x, step_s=300, max_steps=10)

    np.testing.assert_array_equal(series.x_past["volume"], [2.0, 3.0])


def with_gap(points: int, *missing: int) -> np.ndarray:
    y = walk(points)
    y[list(missing)] = NAN
    return y


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"y_prob": walk(32)}, None),
        ({"y_prob": walk(31)}, FallbackReason.TOO_FEW_POINTS),
        ({"y_prob": with_gap(33, 5, 9)}, FallbackReason.TOO_FEW_POINTS),  # filled: no points
        ({"liquidity_bucket": "low"}, FallbackReason.LOW_LIQUIDITY),
        ({"liquidity_bucket": "high"}, None),
        ({"y_prob": with_gap(100, *range(40, 52))}, None),  # an hour
        ({"y_prob": with_gap(100, *range(40, 53))}, FallbackReason.GAP_TOO_LONG),
        ({"y_prob": with_gap(100, 40), "max_gap_minutes": 0.0}, FallbackReason.GAP_TOO_LONG),
        ({"model_name": "timesfm-2.5-200m", "levels": (0.1, 0.5, 0.9)}, None),
        (
            {"model_name": "timesfm-2.5-200m", "levels": (0.05, 0.5)},
            FallbackReason.LEVELS_NOT_SUPPORTED,
        ),
        (
            {"model_name": "granite-ttm-r2", "levels": (0.5,)},
            FallbackReason.LEVELS_NOT_SUPPORTED,
        ),
        ({"model_name": "chronos2", "levels": (0.01, 0.5, 0.99)}, None),
        ({"model_name": "chronos2", "levels": (0.005, 0.5)}, FallbackReason.LEVELS_NOT_SUPPORTED),
        ({"model_name": "chronos2", "levels": (0.5, 0.995)}, FallbackReason.LEVELS_NOT_SUPPORTED),
        ({"model_name": "toto", "levels": (0.01, 0.99)}, None),
        (
            {"model_name": "toto", "levels": (0.01, 0.5), "params": {"num_samples": 64}},
            FallbackReason.LEVELS_NOT_SUPPORTED,
        ),
        (
            {"model_name": "toto", "levels": (0.5, 0.99), "params": {"num_samples": 64}},
            FallbackReason.LEVELS_NOT_SUPPORTED,
        ),
        ({"model_name": "toto", "levels": (0.02, 0.98), "params": {"num_samples": 64}}, None),
    ],
)
def test_series_for_which_the_model_is_not_suited_has_a_reason(
    changes: dict[str, Any], reason: FallbackReason | None
) -> None:
    assert resolved(**changes).ineligible_reason is reason


@pytest.mark.parametrize(
    ("changes", "warnings"),
    [
        ({"model_version": "9"}, ("model_version_not_selectable",)),
        ({"model_version": "0.1.0"}, ()),
        ({"params": {"temperature": 0.0}}, ("model_params_dropped",)),
        ({"y_prob": with_gap(40, 9)}, ("gaps_filled",)),
    ],
)
def test_input_that_is_not_used_as_sent_is_a_warning(
    changes: dict[str, Any], warnings: tuple[str, ...]
) -> None:
    assert resolved(**changes).warnings == warnings
