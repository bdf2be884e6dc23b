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
    has_moved,
    interval,
    score,
    update,
)
from runner.calibration.state import ConformalState, StepFactors
from runner.config.conformal import Enough

LEVELS = np.array([0.1, 0.5, 0.9])
PATH = np.array([[[0.40, 0.50, 0.70]]])  # (1, 1, 3)
CHAIN = ("all",)
FEW = Enough(100, 100)


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


def test_each_half_is_stretched_by_its_own_factor() -> None:
    answer = adjusted(PATH, make_state((2.0, 0.5)))

    np.testing.assert_allclose(answer.paths, [[[0.30, 0.50, 0.60]]])
    assert (answer.target_coverage, answer.sample_size, answer.segment_used) == (0.8, 500, "all")


def test_all_levels_move_along_with_the_calibrated_ones() -> None:
    levels = np.array([0.05, 0.25, 0.75, 0.95])
    path = np.array([[[0.2, 0.4, 0.6, 0.9]]])  # centre 0.5, half way between 0.25 and 0.75

    answer = adjusted(path, make_state((0.5, 1.5)), levels)

    np.testing.assert_allclose(answer.paths, [[[0.35, 0.45, 0.65, 1.0]]])


def test_side_of_a_level_is_told_at_the_median() -> None:
    levels = np.array([0.45, 0.5, 0.55])

    answer = adjusted(np.array([[[0.48, 0.50, 0.52]]]), make_state((0.5, 2.0)), levels)

    np.testing.assert_allclose(answer.paths, [[[0.49, 0.50, 0.54]]])


def test_sample_size_is_that_of_the_last_step_asked_for() -> None:
    track = StepFactors(np.ones((3, 2)), np.array([500, 400, 300]))
    state = ConformalState(0.8, {"ewma": {"all": track}})

    assert adjusted(np.tile(PATH, (1, 2, 1)), state).sample_size == 400


def test_each_step_has_its_own_factors_and_later_ones_are_not_needed() -> None:
    paths = np.tile(PATH, (2, 2, 1))

    answer = adjusted(paths, make_state((1.0, 1.0), (2.0, 1.0), (9.0, 9.0)))

    np.testing.assert_allclose(answer.paths[1, :, 0], [0.4, 0.3])


@pytest.mark.parametrize("levels", [[0.6, 0.7, 0.9], [0.1, 0.2, 0.3]])
def test_path_without_a_centre_is_not_adjusted(levels: list[float]) -> None:
    assert adjust(PATH, np.array(levels), make_state((2.0, 2.0)), "ewma", CHAIN, FEW) is None


@pytest.mark.parametrize(
    ("source", "chain", "min_samples"),
    [("fracast-0", CHAIN, 100), ("ewma", ("liquidity=high",), 100), ("ewma", CHAIN, 501)],
)
def test_unknown_source_unknown_segment_and_few_samples_mean_no_calibration(
    source: str, chain: tuple[str, ...], min_samples: int
) -> None:
    assert (
        adjust(PATH, LEVELS, make_state((2.0, 2.0)), source, chain, Enough(min_samples, 1)) is None
    )


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (0.40, (1.0, 0.0)),  # on the edge
        (0.35, (1.5, 0.0)),
        (0.50, (0.0, 0.0)),
        (0.90, (0.0, 2.0)),
        (np.nan, (np.nan, np.nan)),
    ],
)
def test_score_counts_halves_of_the_band_from_its_centre(
    actual: float, expected: tuple[float, float]
) -> None:
    np.testing.assert_allclose(score(PATH, LEVELS, np.array([[actual]]), 0.8)[0, 0], expected)


def test_half_without_width_is_right_or_beyond_reach() -> None:
    flat = np.array([[[0.5, 0.5, 0.5]]])

    scores = [score(flat, LEVELS, np.array([[y]]), 0.8)[0, 0].tolist() for y in (0.5, 0.6)]

    assert scores == [[0.0, 0.0], [0.0, np.inf]]


@pytest.mark.parametrize("levels", [[0.05, 0.5, 0.9], [0.1, 0.5, 0.95], [0.6, 0.7, 0.9]])
def test_outcome_says_nothing_about_levels_that_were_not_forecast(levels: list[float]) -> None:
    scores = score(PATH, np.array(levels), np.array([[0.5]]), 0.8)

    assert np.isnan(scores).all()
    assert interval(PATH, np.array(levels), 0.8) is None


def test_outcome_says_nothing_about_a_band_without_a_centre() -> None:
    assert np.isnan(score(PATH, np.array([0.6, 0.8, 0.9]), np.array([[0.5]]), 0.8)).all()


def test_interval_is_the_width_between_the_two_calibrated_levels() -> None:
    width = interval(PATH, LEVELS, 0.8)

    assert width is not None
    np.testing.assert_allclose(width, [[0.3]])


@pytest.mark.parametrize(
    ("window", "expected"),
    [([0.1, 0.2, 0.2, 0.3], True), ([0.1, 0.1, 0.2], False), ([0.1, np.nan, 0.2, 0.1], True)],
)
def test_window_that_hardly_moves_is_not_scored(window: list[float], expected: bool) -> None:
    assert has_moved(np.array(window), 2) is expected


def test_fit_takes_the_corrected_rank_of_the_scores() -> None:
    scores = np.arange(1, 20.0)[:, None, None] / 10 * np.array([1.0, 2.0])  # 0.1, 0.2 ... 1.9

    state = fit([scored(scores)], 0.8)  # rank ceil(20 * 0.9) = 18 of 19

    np.testing.assert_allclose(factors(state), [[1.8, 3.6]], rtol=2e-6)
    assert state.tracks["ewma"]["all"].sample_size.tolist() == [19]


def test_fitted_factor_keeps_a_tie_inside() -> None:
    scores = np.full((50, 1, 2), 1 / 3)

    state = fit([scored(scores)], 0.8)

    assert (factors(state) > 1 / 3).all()


@pytest.mark.parametrize("scores", [np.ones((8, 1, 2)) * 3, np.full((50, 1, 2), np.inf)])
def test_fit_leaves_a_band_alone_when_no_stretch_is_known_to_cover_enough(
    scores: np.ndarray,
) -> None:
    state = fit([scored(scores)], 0.8)

    np.testing.assert_array_equal(factors(state), [[1.0, 1.0]])


def test_fit_pools_segments_and_skips_what_is_not_known() -> None:
    short = scored(np.full((10, 1, 2), 2.0), "liquidity=high")
    long = scored(np.full((20, 2, 2), 1.0), "liquidity=mid")
    long.scores[:5, 1] = np.nan

    state = fit([short, long], 0.8)

    sizes = {name: track.sample_size.tolist() for name, track in state.tracks["ewma"].items()}
    assert sizes == {"liquidity=high": [10], "liquidity=mid": [20, 15], "all": [30, 15]}
    np.testing.assert_allclose(factors(state)[0], 2.0, rtol=2e-6)


def test_fitted_segment_is_drawn_to_the_wider_one_the_more_the_less_it_knows() -> None:
    few = scored(np.full((25, 1, 2), 4.0), "width=0..1")  # a fifth of the weight
    many = scored(np.full((975, 1, 2), 1.0))

    state = fit([few, many], 0.8, shrink_samples=100)

    np.testing.assert_allclose(factors(state), 1.0, rtol=2e-6)
    np.testing.assert_allclose(factors(state, "width=0..1"), 4.0**0.2, rtol=2e-6)


def test_each_segment_is_drawn_to_the_next_wider_one() -> None:
    narrow = scored(np.full((50, 1, 2), 9.0), "liquidity=high|width=0..1", "width=0..1")
    wide = scored(np.full((950, 1, 2), 4.0), "width=0..1")
    rest = scored(np.full((19000, 1, 2), 1.0))

    state = fit([narrow, wide, rest], 0.8, shrink_samples=100)

    middle = 4.0 ** (1000 / 1100)
    np.testing.assert_allclose(factors(state, "width=0..1"), middle, rtol=2e-6)
    expected = 9.0 ** (1 / 3) * middle ** (2 / 3)
    np.testing.assert_allclose(factors(state, "liquidity=high|width=0..1"), expected, rtol=2e-6)


@pytest.mark.parametrize("scores", [np.ones((8, 1, 2)) * 3, np.full((50, 1, 2), np.inf)])
def test_segment_that_knows_no_stretch_takes_the_wider_ones(scores: np.ndarray) -> None:
    state = fit([scored(scores, "width=0..1"), scored(np.full((950, 1, 2), 2.0))], 0.8, 100)

    np.testing.assert_array_equal(factors(state, "width=0..1"), factors(state))


def test_fitted_factors_stay_within_limits() -> None:
    state = fit([scored(np.stack([np.zeros(20), np.full(20, 1e6)], -1)[:, None])], 0.8)

    np.testing.assert_array_equal(factors(state), [[0.05, 20.0]])


def test_miss_widens_and_hit_narrows() -> None:
    before = make_state((1.0, 1.0))

    after = update(before, [scored(np.array([[[1.5, 0.5]]]))], 0.1)

    np.testing.assert_allclose(factors(after), [[np.exp(0.09), np.exp(-0.01)]])
    assert after.tracks["ewma"]["all"].sample_size.tolist() == [501]
    np.testing.assert_array_equal(factors(before), [[1.0, 1.0]])


def test_outcome_on_the_edge_is_a_hit() -> None:
    after = update(make_state((1.0, 1.0)), [scored(np.array([[[1.0, 1.0]]]))], 0.1)

    assert (factors(after) < 1).all()


def test_outcome_that_is_not_known_changes_nothing() -> None:
    scores = np.array([[[np.nan, np.nan], [2.0, 0.0]]])

    after = update(make_state((1.1, 1.2), (1.1, 1.2)), [scored(scores)], 0.1)

    np.testing.assert_array_equal(factors(after)[0], [1.1, 1.2])
    assert factors(after)[1, 0] > 1.1
    assert after.tracks["ewma"]["all"].sample_size.tolist() == [500, 501]


def test_new_segment_starts_from_what_its_source_knows_without_its_outcomes() -> None:
    quiet = np.full((1, 1, 2), np.nan)

    after = update(make_state((1.4, 0.7)), [scored(quiet, "freq=5m")], 0.1)

    np.testing.assert_array_equal(factors(after, "freq=5m"), [[1.4, 0.7]])
    assert after.tracks["ewma"]["freq=5m"].sample_size.tolist() == [0]


def test_new_source_starts_from_its_bands_as_they_are_and_new_steps_from_the_last() -> None:
    first = update(ConformalState(0.8), [scored(np.full((4, 1, 2), 5.0))], 0.1)

    after = update(first, [scored(np.full((1, 3, 2), np.nan))], 0.1)

    np.testing.assert_allclose(factors(after), np.full((3, 2), np.exp(4 * 0.09)))
    assert after.tracks["ewma"]["all"].sample_size.tolist() == [4, 0, 0]


def test_other_sources_are_left_as_they_are() -> None:
    before = make_state((1.4, 0.7))

    after = update(before, [Scored("fracast-0", ("all",), np.ones((3, 1, 2)))], 0.1)

    assert after.tracks["ewma"] is before.tracks["ewma"]
    assert after.tracks["fracast-0"]["all"].sample_size.tolist() == [3]


def test_update_in_two_parts_is_update_at_once() -> None:
    scores = np.random.default_rng(3).exponential(1.0, (40, 2, 2))

    at_once = update(make_state((1.0, 1.0)), [scored(scores)], 0.1)
    parts = update(make_state((1.0, 1.0)), [scored(scores[:13]), scored(scores[13:])], 0.1)

    np.testing.assert_allclose(factors(parts), factors(at_once))


# What calibration promises


def gaussian(
    rng: np.random.Generator, shape: tuple[int, int], scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Bands that are right for outcomes ``scale`` times calmer; each step a market of its own."""
    half = 0.02 * 1.2816
    y = np.clip(0.5 + rng.normal(0, 0.02 * scale, shape), 0, 1)
    return np.tile([0.5 - half, 0.5, 0.5 + half], (*shape, 1)), y


def inside(paths: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.asarray((paths[..., 0] <= y) & (y <= paths[..., -1]))


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("target", [0.5, 0.8])
def test_next_outcome_is_covered_as_often_as_asked_on_exchangeable_data(
    scale: float, target: float
) -> None:
    rng = np.random.default_rng(11)
    levels = np.array([round((1 - target) / 2, 9), 0.5, round((1 + target) / 2, 9)])
    paths, y = gaussian(rng, (59, 400), scale)
    fresh, outcomes = gaussian(rng, (50, 400), scale)

    state = fit([scored(score(paths, levels, y, target))], target)
    answer = adjust(fresh, levels, state, "ewma", CHAIN, Enough(59, 59))

    assert answer is not None
    covered = inside(answer.paths, outcomes).mean(axis=0)  # by market
    # from the target to the target + 2 / (n + 1), theorem 2; three standard errors each way
    error = 3 * covered.std() / np.sqrt(covered.size)
    assert target - error <= covered.mean() <= target + 2 / 60 + error


@pytest.mark.parametrize("scale", [1 / 3, 3.0])
def test_coverage_is_back_within_two_hundred_outcomes_of_a_threefold_change(scale: float) -> None:
    rng = np.random.default_rng(5)
    state = make_state(*[(1.0, 1.0)] * 300)
    paths, y = gaussian(rng, (200, 300), scale)
    hits = []

    state = update(state, [scored(score(paths, LEVELS, y, 0.8))], 0.1)
    for _ in range(50):
        fresh, outcome = gaussian(rng, (1, 300), scale)
        hits.append(inside(adjusted(fresh, state).paths, outcome).mean())
        state = update(state, [scored(score(fresh, LEVELS, outcome, 0.8))], 0.1)

    assert np.mean(hits) == pytest.approx(0.8, abs=0.03)


@settings(max_examples=40, deadline=None)  # many small updates, on a machine that may be busy
@given(
    scores=hnp.arrays(float, (60, 1, 2), elements=st.floats(0, 5)),
    rate=st.sampled_from([0.3, 1.0]),
)
def test_share_of_misses_is_as_asked_up_to_a_constant_over_time_whatever_comes(
    scores: np.ndarray, rate: float
) -> None:
    state = make_state((1.0, 1.0))
    misses, free = np.zeros(2), True
    for outcome in scores:
        misses += outcome[0] > factors(state)[0]
        state = update(state, [scored(outcome[None])], rate)
        free &= bool(((factors(state) > 0.05) & (factors(state) < 20)).all())

    if free:  # at a limit the promise ends
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


@given(scores=hnp.arrays(float, (60, 2, 2), elements=st.floats(0, 30)))
def test_more_coverage_never_asks_for_a_narrower_band(scores: np.ndarray) -> None:
    fitted = [factors(fit([scored(scores)], target)) for target in (0.5, 0.6, 0.7, 0.8, 0.9)]

    assert (np.diff(fitted, axis=0) >= 0).all()


@given(
    paths=hnp.arrays(float, (1, 2, 5), elements=st.floats(0.01, 0.2)).map(
        lambda steps: np.cumsum(steps, axis=2)
    ),
    share=st.floats(0, 1),
    stretch=st.floats(0.06, 10),
)
def test_outcome_is_inside_the_adjusted_band_just_when_it_scores_at_most_the_factor(
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
