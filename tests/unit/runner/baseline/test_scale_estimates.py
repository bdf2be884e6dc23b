import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.baseline.scale_estimates import estimate_scales, fill_forward, smoothed
from runner.config.sections import BaselineSection

NAN = np.nan
ONE_MEMORY = BaselineSection(
    half_lives_steps=(1,), trust_moves=2.5, level_alphas=(0.5, 0.2), width_factor=1.0
)
SHORT_AND_LONG = ONE_MEMORY.model_copy(update={"half_lives_steps": (1e-3, 1e9)})
LONG_MEMORY = ONE_MEMORY.model_copy(update={"half_lives_steps": (1e9,)})
NEVER_SMOOTH = ONE_MEMORY.model_copy(update={"level_alphas": ()})


def past(*rows, settings=ONE_MEMORY):
    return estimate_scales(fill_forward(np.array(rows, dtype=float)), settings)


def noise(points=200, seed=3):
    return np.random.default_rng(seed).normal(2.0, 0.5, points)


def test_one_memory_weighs_moves_by_their_age():
    estimate = past([0, 1, 1])

    assert estimate.move[0] == pytest.approx(0.5 / 1.5)
    assert estimate.active_later[0] == pytest.approx((0.5 + 0.5) / (1.5 + 1))
    assert estimate.active_next[0] == estimate.active_later[0]


def test_a_short_memory_counts_as_far_as_it_holds_moves():
    estimate = past([0, 1, 2, 3, 7], settings=SHORT_AND_LONG)

    long, short, trust = 7 / 4, 4.0, 1 / (1 + 2.5)
    assert estimate.move[0] == pytest.approx(long + trust * (short - long))
    assert estimate.active_later[0] == pytest.approx(4.5 / 5)
    assert estimate.active_next[0] == pytest.approx((1 + 2 * 0.9) / (1 + 2))


def test_rounding_is_not_a_move():
    estimate = past([0.3, 0.1 + 0.2, 0.3, 0.1 + 0.2])

    np.testing.assert_array_equal(estimate.active_later, past([0.3] * 4).active_later)


def test_a_trend_carries_its_moves_further():
    estimate = past(np.arange(30))

    assert estimate.move[0] == pytest.approx((8.05 / 1.05) ** 0.25)


def test_moves_that_are_taken_back_count_less():
    there_and_back = past([0, 1] * 20, settings=NEVER_SMOOTH)

    assert there_and_back.move[0] == pytest.approx((0.05 / 1.05) ** 0.25)
    assert there_and_back.sticky[0] == 1


@pytest.mark.parametrize("points", [2, 8])
def test_too_few_points_for_a_ratio_count_as_a_random_walk(points):
    assert past([0, 1] * (points // 2)).move[0] == pytest.approx(1.0)


def test_noise_round_a_level_gets_an_average_and_hardly_grows():
    estimate = past(noise(), settings=LONG_MEMORY)

    assert estimate.sticky[0] == 0
    assert estimate.level[0] == pytest.approx(2.0, abs=0.3)
    assert estimate.growth[0] == pytest.approx(0.2**2, abs=0.01)
    assert estimate.move[0] == pytest.approx(0.5 * (2 / np.pi) ** 0.5 * 1.05, rel=0.1)


def test_little_evidence_leaves_the_level_between_the_last_value_and_an_average():
    y = noise(36)

    doubtful, sure, last = past(y), past(noise(200)), y[-1]

    assert 0 < doubtful.sticky[0] < 1
    assert 0 < abs(doubtful.level[0] - last) < abs(np.mean(y[-10:]) - last)
    assert sure.growth[0] < doubtful.growth[0] < 1


def test_values_long_ago_are_forgotten_without_a_complaint():
    estimate = past([0, 1] + [NAN] * 5000)

    assert np.isfinite(estimate.move[0])
    assert estimate.active_later[0] == pytest.approx(0.5)


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


def test_a_gap_repeats_the_value_before_it_and_its_increment_is_shared_out():
    filled = fill_forward(np.array([[1.0, NAN, NAN, NAN, 5.0, 6.0]]))

    np.testing.assert_array_equal(filled.y, [[1, 1, 1, 1, 5, 6]])
    np.testing.assert_array_equal(filled.weight, [[0, 0, 0, 0.5, 1]])
