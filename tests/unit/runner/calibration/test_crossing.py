"""Probabilities above thresholds: monotone, inside 0 to 1, and those of the quantiles."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.calibration.crossing import probability_above

LEVELS = (0.1, 0.5, 0.9)
Price = st.floats(0, 1, allow_nan=False)
Inside = st.floats(0.001, 0.999)


@given(
    st.lists(st.tuples(Price, Price, Price).map(sorted), min_size=1, max_size=5),
    st.lists(Inside, min_size=1, max_size=6).map(sorted),
)
@example([[0.0, 0.0, 5e-324]], [0.5])  # the slope is more than a number can hold
def test_probabilities_fall_with_the_threshold_and_stay_inside_0_to_1(
    paths: list[list[float]], thresholds: list[float]
) -> None:
    above = probability_above(np.array(paths), LEVELS, thresholds)

    assert above.shape == (len(paths), len(thresholds))
    assert ((above >= 0) & (above <= 1)).all()
    assert (np.diff(above, axis=1) <= 1e-12).all()


@given(st.tuples(Inside, Inside, Inside).map(sorted), Inside)
def test_threshold_at_a_quantile_has_one_minus_its_level(path: list[float], other: float) -> None:
    above = probability_above(np.array([path]), LEVELS, (*path, other))[0]
    for value, probability in zip(path, above, strict=False):
        highest = max(one for one, p in zip(LEVELS, path, strict=True) if p == value)
        assert probability == pytest.approx(1 - highest)
    inside = [level for level, p in zip(LEVELS, path, strict=True) if p <= other]
    assert above[-1] <= 1 - max(inside, default=0.0) + 1e-9


@pytest.mark.parametrize(
    ("path", "threshold", "expected"),
    [
        ([0.0, 0.0, 0.0], 0.5, 0.0),
        ([1.0, 1.0, 1.0], 0.5, 1.0),
        ([0.5, 0.5, 0.5], 0.5, 0.1),  # it is there with 0.8: not above
        ([0.5, 0.5, 0.5], 0.4999999, 1.0),
        ([0.5, 0.5, 0.6], 0.4999999, 1.0),
        ([0.4, 0.5, 0.5], 0.5000001, 0.0),
    ],
)
def test_a_price_that_stays_counts_as_what_it_is(
    path: list[float], threshold: float, expected: float
) -> None:
    found = probability_above(np.array([path]), LEVELS, (threshold,))

    assert found[0, 0] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("levels", [(0.1, 0.5, 0.9), (0.05, 0.95), (0.9, 0.95), (0.2, 0.3)])
def test_quantiles_of_a_normal_distribution_give_its_probabilities(
    levels: tuple[float, ...],
) -> None:
    normal = NormalDist(0.5, 0.05)
    path = np.array([[normal.inv_cdf(level) for level in levels]])
    thresholds = (0.3, 0.42, 0.5, 0.52, 0.6, 0.68)
    found = probability_above(path, levels, thresholds)

    assert found[0] == pytest.approx([1 - normal.cdf(x) for x in thresholds], abs=1e-9)
