import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.baseline.scale_estimates import decayed_sums, fill_forward, smoothed

NAN = np.nan


@given(
    alpha=st.floats(0.01, 0.99),
    values=st.lists(st.floats(-20, 20), min_size=1, max_size=70),
)
def test_smoothed_is_the_textbook_recursion(alpha, values):
    level, expected = values[0], []
    for value in values:
        level += alpha * (value - level)
        expected.append(level)

    np.testing.assert_allclose(smoothed(np.array([values]), alpha)[0], expected, atol=1e-9)


def test_smoothed_leaves_the_series_it_was_given_alone():
    y = np.array([[1.0, 2.0, 4.0]])

    smoothed(y, 0.5)

    np.testing.assert_array_equal(y, [[1.0, 2.0, 4.0]])


def test_decayed_sum_halves_a_weight_every_half_life():
    values = np.array([[8.0, 0.0, 4.0, 1.0], [0.0, 0.0, 0.0, 3.0]])

    sums = decayed_sums(values, np.array([1.0, 3.0]))

    np.testing.assert_allclose(sums, [[4.0, 5 + 4 * (0.5 ** (1 / 3) - 1) + 4], [3.0, 3.0]])


def test_a_series_without_gaps_stays_as_it_is():
    y = np.array([[1.0, 2.0, 3.0]])

    filled = fill_forward(y)

    assert filled.y is y
    np.testing.assert_array_equal(filled.weight, [[1.0, 1.0]])
    assert (filled.first[0], filled.last[0]) == (0, 2)


def test_a_gap_repeats_the_value_before_it_and_its_increment_is_shared_out():
    filled = fill_forward(np.array([[1.0, NAN, NAN, NAN, 5.0, 6.0]]))

    np.testing.assert_array_equal(filled.y, [[1, 1, 1, 1, 5, 6]])
    np.testing.assert_array_equal(filled.weight, [[0, 0, 0, 0.5, 1]])


def test_padding_repeats_the_first_value_and_weighs_nothing():
    filled = fill_forward(np.array([[NAN, NAN, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]]))

    np.testing.assert_array_equal(filled.y[0], [3, 3, 3, 4])
    np.testing.assert_array_equal(filled.weight, [[0, 0, 1], [1, 1, 1]])
    np.testing.assert_array_equal(filled.first, [2, 0])


@pytest.mark.parametrize("gap", [1, 3])
def test_a_gap_at_the_end_keeps_the_last_value_that_was_there(gap):
    filled = fill_forward(np.array([[1.0, 2.0] + [NAN] * gap]))

    assert filled.last[0] == 1
    np.testing.assert_array_equal(filled.y[0, 1:], 2.0)
    np.testing.assert_array_equal(filled.weight[0, 1:], 0.0)
