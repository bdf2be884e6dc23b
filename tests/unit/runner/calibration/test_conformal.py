import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runner.calibration.conformal import (
    Adjusted,
    Scored,
    adjust,
    fit,
    score,
    update,
)
from runner.calibration.state import ConformalState, StepFactors
from tests.support.learning import make_settings

LEVELS = np.array([0.1, 0.5, 0.9])
PATH = np.array([[[0.40, 0.50, 0.70]]])  # (1, 1, 3)
CHAIN = ("all",)
FEW = make_settings(min_samples=50, min_segment_samples=50)


def make_state(*factors: tuple[float, float], samples: int = 500) -> ConformalState:
    track = StepFactors(np.array(factors), np.full(len(factors), samples))
    return ConformalState(0.8, {"ewma": {"all": track}})


def adjusted(paths: np.ndarray, state: ConformalState, levels: np.ndarray = LEVELS) -> Adjusted:
    found = adjust(paths, levels, state, "ewma", CHAIN, FEW)
    assert found is not None
    return found


def scored(scores: np.ndarray, *segments: str) -> Scored:
    return Scored("ewma", (*segments, "all"), scores)


def factors(state: ConformalState, segment: str = "all") -> np.ndarray:
    return state.tracks["ewma"][segment].factors


@pytest.mark.parametrize(
    ("path", "levels", "factor", "expected"),
    [
        ([0.40, 0.50, 0.70], [0.1, 0.5, 0.9], (2.0, 0.5), [0.30, 0.50, 0.60]),
        # the centre is half way between 0.25 and 0.75
        ([0.2, 0.4, 0.6, 0.9], [0.05, 0.25, 0.75, 0.95], (0.5, 1.5), [0.35, 0.45, 0.65, 1.0]),
    ],
)
def test_all_levels_of_each_half_are_moved_by_the_factor_of_their_step(
    path: list[float], levels: list[float], factor: tuple[float, float], expected: list[float]
) -> None:
    paths = np.tile(path, (2, 2, 1))

    answer = adjusted(paths, make_state(factor, (1.0, 1.0), (9.0, 9.0)), np.array(levels))

    np.testing.assert_allclose(answer.paths, np.tile([expected, path], (2, 1, 1)))
    assert (answer.target_coverage, answer.sample_size, answer.segment_used) == (0.8, 500, "all")


@pytest.mark.parametrize("levels", [[0.6, 0.7, 0.9], [0.1, 0.2, 0.3]])
def test_path_without_a_centre_is_not_adjusted(levels: list[float]) -> None:
    assert adjust(PATH, np.array(levels), make_state((2.0, 2.0)), "ewma", CHAIN, FEW) is None


@pytest.mark.parametrize(
    ("path", "actual", "expected"),
    [
        ([0.4, 0.5, 0.7], 0.40, (1.0, 0.0)),  # on the edge
        ([0.4, 0.5, 0.7], 0.35, (1.5, 0.0)),
        ([0.4, 0.5, 0.7], 0.50, (0.0, 0.0)),
        ([0.4, 0.5, 0.7], 0.90, (0.0, 2.0)),
        ([0.4, 0.5, 0.7], np.nan, (np.nan, np.nan)),
        ([0.5, 0.5, 0.5], 0.5, (0.0, 0.0)),  # no width
        ([0.5, 0.5, 0.5], 0.6, (0.0, np.inf)),
    ],
)
def test_score_is_the_distance_from_the_centre_in_half_widths(
    path: list[float], actual: float, expected: tuple[float, float]
) -> None:
    scores = score(np.array([[path]]), LEVELS, np.array([[actual]]), 0.8)

    np.testing.assert_allclose(scores[0, 0], expected)


@pytest.mark.parametrize("levels", [[0.05, 0.5, 0.9], [0.1, 0.5, 0.95], [0.6, 0.7, 0.9]])
def test_missing_levels_have_no_scores(levels: list[float]) -> None:
    scores = score(PATH, np.array(levels), np.array([[0.5]]), 0.8)

    assert np.isnan(scores).all()


def test_fit_takes_the_corrected_rank_of_the_scores() -> None:
    scores = np.arange(1, 20.0)[:, None, None] / 10 * np.array([1.0, 2.0])  # 0.1, 0.2 ... 1.9

    state = fit([scored(scores)], 0.8)  # rank ceil(20 * 0.9) = 18 of 19

    np.testing.assert_allclose(factors(state), [[1.8, 3.6]], rtol=2e-6)
    assert state.tracks["ewma"]["all"].sample_size.tolist() == [19]


def test_fitted_factor_covers_equal_scores() -> None:
    scores = np.full((50, 1, 2), 1 / 3)

    state = fit([scored(scores)], 0.8)

    assert (factors(state) > 1 / 3).all()


@pytest.mark.parametrize("scores", [np.ones((8, 1, 2)) * 3, np.full((50, 1, 2), np.inf)])
def test_fitted_factor_is_one_where_no_finite_factor_covers_enough(
    scores: np.ndarray,
) -> None:
    state = fit([scored(scores)], 0.8)

    np.testing.assert_array_equal(factors(state), [[1.0, 1.0]])


def test_fit_pools_segments_and_skips_unknown_outcomes() -> None:
    short = scored(np.full((10, 1, 2), 2.0), "liquidity=high")
    long = scored(np.full((20, 2, 2), 1.0), "liquidity=mid")
    long.scores[:5, 1] = np.nan

    state = fit([short, long], 0.8)

    sizes = {name: track.sample_size.tolist() for name, track in state.tracks["ewma"].items()}
    assert sizes == {"liquidity=high": [10], "liquidity=mid": [20, 15], "all": [30, 15]}
    np.testing.assert_allclose(factors(state)[0], 2.0, rtol=2e-6)


def test_fitted_segment_is_shrunk_to_the_wider_one_by_its_number_of_outcomes() -> None:
    few = scored(np.full((25, 1, 2), 4.0), "width=0..1")  # a fifth of the weight
    many = scored(np.full((975, 1, 2), 1.0))

    state = fit([few, many], 0.8, shrink_samples=100)

    np.testing.assert_allclose(factors(state), 1.0, rtol=2e-6)
    np.testing.assert_allclose(factors(state, "width=0..1"), 4.0**0.2, rtol=2e-6)


def test_fitted_factors_stay_within_limits() -> None:
    state = fit([scored(np.stack([np.zeros(20), np.full(20, 1e6)], -1)[:, None])], 0.8)

    np.testing.assert_array_equal(factors(state), [[0.05, 20.0]])


def test_miss_widens_and_hit_narrows() -> None:
    before = make_state((1.0, 1.0))

    after = update(before, [scored(np.array([[[1.5, 0.5]]]))], 0.1)

    np.testing.assert_allclose(factors(after), [[np.exp(0.09), np.exp(-0.01)]])
    assert after.tracks["ewma"]["all"].sample_size.tolist() == [501]
    np.testing.assert_array_equal(factors(before), [[1.0, 1.0]])


def test_unknown_outcome_changes_nothing() -> None:
    scores = np.array([[[np.nan, np.nan], [2.0, 0.0]]])

    after = update(make_state((1.1, 1.2), (1.1, 1.2)), [scored(scores)], 0.1)

    np.testing.assert_array_equal(factors(after)[0], [1.1, 1.2])
    assert factors(after)[1, 0] > 1.1
    assert after.tracks["ewma"]["all"].sample_size.tolist() == [500, 501]


def test_new_segment_starts_from_the_wider_ones_factors_without_outcomes() -> None:
    quiet = np.full((1, 1, 2), np.nan)

    after = update(make_state((1.4, 0.7)), [scored(quiet, "freq=5m")], 0.1)

    np.testing.assert_array_equal(factors(after, "freq=5m"), [[1.4, 0.7]])
    assert after.tracks["ewma"]["freq=5m"].sample_size.tolist() == [0]


def test_new_source_starts_from_factor_one_and_new_steps_from_the_last_step() -> None:
    first = update(ConformalState(0.8), [scored(np.full((4, 1, 2), 5.0))], 0.1)

    after = update(first, [scored(np.full((1, 3, 2), np.nan))], 0.1)

    np.testing.assert_allclose(factors(after), np.full((3, 2), np.exp(4 * 0.09)))
    assert after.tracks["ewma"]["all"].sample_size.tolist() == [4, 0, 0]


# Guarantees of calibration


def gaussian(
    rng: np.random.Generator, shape: tuple[int, int], scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Bands for outcomes with 1/``scale`` of their sigma; each step is a market of its own."""
    half = 0.02 * 1.2816
    y = np.clip(0.5 + rng.normal(0, 0.02 * scale, shape), 0, 1)
    return np.tile([0.5 - half, 0.5, 0.5 + half], (*shape, 1)), y


def inside(paths: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.asarray((paths[..., 0] <= y) & (y <= paths[..., -1]))


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("target", [0.5, 0.8])
def test_coverage_of_the_next_outcome_is_the_target_on_exchangeable_data(
    scale: float, target: float
) -> None:
    rng = np.random.default_rng(11)
    levels = np.array([round((1 - target) / 2, 9), 0.5, round((1 + target) / 2, 9)])
    paths, y = gaussian(rng, (59, 400), scale)
    fresh, outcomes = gaussian(rng, (50, 400), scale)

    state = fit([scored(score(paths, levels, y, target))], target)
    answer = adjust(fresh, levels, state, "ewma", CHAIN, FEW)

    assert answer is not None
    covered = inside(answer.paths, outcomes).mean(axis=0)  # by market
    # from the target to the target + 2 / (n + 1), theorem 2; three standard errors each way
    error = 3 * covered.std() / np.sqrt(covered.size)
    assert target - error <= covered.mean() <= target + 2 / 60 + error


@settings(max_examples=40, deadline=None)  # many small updates, on a machine that may be busy
@given(
    scores=hnp.arrays(float, (60, 1, 2), elements=st.floats(0, 5)),
    rate=st.sampled_from([0.3, 1.0]),
)
def test_share_of_misses_is_the_target_up_to_a_constant_over_time_for_any_outcomes(
    scores: np.ndarray, rate: float
) -> None:
    state = make_state((1.0, 1.0))
    misses, free = np.zeros(2), True
    for outcome in scores:
        misses += outcome[0] > factors(state)[0]
        state = update(state, [scored(outcome[None])], rate)
        free &= bool(((factors(state) > 0.05) & (factors(state) < 20)).all())

    if free:  # the bound does not hold at a limit of the factors
        bound = np.log(20 / 0.05) / (rate * len(scores))
        assert (np.abs(misses / len(scores) - 0.1) <= bound).all()


PATHS = hnp.arrays(
    float, st.tuples(st.integers(1, 3), st.integers(1, 4), st.just(5)), elements=st.floats(0, 1)
).map(lambda paths: np.sort(paths, axis=2))
FACTORS = hnp.arrays(float, (4, 2), elements=st.floats(0.05, 20))
FIVE = st.sampled_from([[0.05, 0.1, 0.5, 0.9, 0.95], [0.1, 0.2, 0.4, 0.7, 0.9]])


@given(paths=PATHS, stretch=FACTORS, levels=FIVE)
def test_adjusted_paths_keep_shape_order_bounds_and_median(
    paths: np.ndarray, stretch: np.ndarray, levels: list[float]
) -> None:
    state = make_state(*map(tuple, stretch))
    before = paths.copy()

    answer = adjusted(paths, state, np.array(levels)).paths

    assert answer.shape == paths.shape
    assert np.isfinite(answer).all()
    assert ((answer >= 0) & (answer <= 1)).all()
    assert (np.diff(answer, axis=2) >= 0).all()
    np.testing.assert_array_equal(paths, before)
    if 0.5 in levels:
        np.testing.assert_array_equal(answer[..., 2], paths[..., 2])


@given(
    paths=hnp.arrays(float, (1, 2, 5), elements=st.floats(0.01, 0.2)).map(
        lambda steps: np.cumsum(steps, axis=2)
    ),
    share=st.floats(0, 1),
    stretch=st.floats(0.06, 10),
)
def test_outcome_is_inside_the_adjusted_band_if_and_only_if_its_score_is_at_most_the_factor(
    paths: np.ndarray, share: float, stretch: float
) -> None:
    levels = np.array([0.05, 0.1, 0.5, 0.9, 0.95])
    actual = np.full(paths.shape[:2], share)
    state = make_state(*[(stretch, stretch)] * 4)

    scores = score(paths, levels, actual, 0.8)
    edges = adjusted(paths, state, levels).paths[..., [1, 3]]

    clear = np.asarray((np.abs(scores - stretch) > 1e-9).all(axis=-1))
    reached = np.asarray((scores <= stretch).all(axis=-1))
    np.testing.assert_array_equal(inside(edges, actual)[clear], reached[clear])
