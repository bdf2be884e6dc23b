import numpy as np
import pytest

from runner.calibration.surprise import MEMORY_POINTS, ScoreHistogram


def histogram_of(scores: np.ndarray, step: int = 0) -> ScoreHistogram:
    return ScoreHistogram().after(np.full(len(scores), step), scores)


def test_p_value_is_the_share_of_scores_as_far_out_on_both_sides() -> None:
    seen = histogram_of(np.repeat([-2.0, -0.5, 0.5, 2.0], 5))

    near, samples = seen.p_value(0, 0.5)
    far, _ = seen.p_value(0, 2.0)
    farther, _ = seen.p_value(0, 9.0)
    assert samples == pytest.approx(20, rel=0.01)
    assert (near, far, farther) == pytest.approx((1.0, 0.5, 0.0), abs=0.01)


def test_price_that_has_not_moved_is_no_surprise() -> None:
    seen = histogram_of(np.array([*[0.0] * 90, *[3.0] * 10]))

    assert seen.p_value(0, 0.0)[0] == 1.0
    assert seen.p_value(0, 3.0)[0] == pytest.approx(0.2, abs=0.01)


def test_groups_of_steps_are_apart_and_later_steps_share_one() -> None:
    seen = histogram_of(np.ones(9), step=5)

    assert [round(seen.p_value(step, 1.0)[1]) for step in (0, 3, 4, 11, 12, 40)] == [
        *(0, 0, 9, 9, 0, 0)
    ]
    assert seen.p_value(0, 1.0)[0] == 1.0


def test_earlier_scores_lose_weight_alike_in_one_batch_and_in_many() -> None:
    scores = np.array([1.0, -1.0, 2.0, 0.0])
    once, many = histogram_of(scores), ScoreHistogram()
    for score in scores:
        many = many.after(np.zeros(1, dtype=np.int64), np.array([score]))

    np.testing.assert_allclose(once.counts, many.counts)
    kept = 1 - 1 / MEMORY_POINTS
    assert once.counts.sum() == pytest.approx(sum(kept**age for age in range(4)))


def test_randomised_p_values_are_uniform_also_where_prices_stay_on_their_tick() -> None:
    """The least distance of Kolmogorov and Smirnov that is asked for is 0.02."""
    chance = np.random.default_rng(1)

    def scores(count: int) -> np.ndarray:
        moved = chance.random(count) < 0.4
        return np.where(moved, chance.standard_t(3, count), 0.0)

    seen = histogram_of(scores(20_000))
    found = np.sort(seen.randomised(0, scores(4000), chance.random(4000)))

    grid = (np.arange(4000) + 0.5) / 4000
    assert np.abs(found - grid).max() < 0.03  # 0.02 of the histogram, 0.013 of 4,000 values
