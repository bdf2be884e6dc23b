import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runner.bands import (
    Correction,
    SanitizedBands,
    from_model_space,
    observed_tick,
    relimited,
    sanitize,
    to_model_space,
)
from runner.config.sections import BandsSection
from runner.types import Space, Transform

LIMITS = BandsSection(min_interval_width=0.02, min_interval_ticks=None, max_interval_width=0.9)
LEVELS = np.array([0.1, 0.5, 0.9])


def one_step(*values: float) -> SanitizedBands:
    levels = np.linspace(0.1, 0.9, len(values)) if len(values) > 1 else np.array([0.5])
    return sanitize(np.array([[values]]), levels, LIMITS)


@pytest.mark.parametrize(
    ("values", "expected", "corrections"),
    [
        ([0.3, 0.4, 0.5], [0.3, 0.4, 0.5], ()),
        ([-0.1, 0.2, 0.3], [0.0, 0.2, 0.3], (Correction.CLIPPED,)),
        ([0.5, 0.4, 0.3], [0.3, 0.4, 0.5], (Correction.REARRANGED,)),
        ([0.400, 0.402, 0.404], [0.392, 0.402, 0.412], (Correction.WIDENED,)),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.02], (Correction.WIDENED,)),  # shifted inside
        ([1.0, 1.0, 1.0], [0.98, 1.0, 1.0], (Correction.WIDENED,)),
        ([0.005, 0.005, 0.005], [0.0, 0.005, 0.02], (Correction.WIDENED,)),
        ([0.0, 0.25, 1.0], [0.025, 0.25, 0.925], (Correction.NARROWED,)),  # about the median
        ([0.4], [0.4], ()),  # a single level has no width
    ],
)
def test_paths_are_corrected_and_each_kind_of_correction_is_named(
    values: list[float], expected: list[float], corrections: tuple[Correction, ...]
) -> None:
    bands = one_step(*values).row(0)

    np.testing.assert_allclose(bands.y_prob, [expected])
    np.testing.assert_allclose(bands.unlimited, [np.sort(np.clip(values, 0, 1))])
    assert bands.corrections == corrections


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_not_usable_and_hurt_nobody_else(bad: float) -> None:
    repaired = sanitize(np.array([[[0.1, bad, 0.3]], [[0.1, 0.2, 0.3]]]), LEVELS, LIMITS)

    assert repaired.usable.tolist() == [False, True]
    assert repaired.row(1).corrections == ()
    assert np.isfinite(repaired.y_prob).all()


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6)),
        elements=st.floats(-2, 3),
    )
)
def test_whatever_comes_in_leaves_ordered_bounded_and_within_widths(paths: np.ndarray) -> None:
    levels = np.linspace(0.05, 0.95, paths.shape[2]) if paths.shape[2] > 1 else np.array([0.5])

    y = sanitize(paths, levels, LIMITS).y_prob

    assert y.shape == paths.shape
    assert ((y >= 0) & (y <= 1)).all()
    assert (np.diff(y, axis=2) >= -1e-15).all()
    if paths.shape[2] > 1:
        width = y[..., -1] - y[..., 0]
        assert (width >= LIMITS.min_interval_width - 1e-12).all()
        assert (width <= LIMITS.max_interval_width + 1e-12).all()


def test_bands_get_other_width_limits_from_what_they_were_before() -> None:
    bands = one_step(0.400, 0.402, -0.1).row(0)
    series = np.array([0.40, 0.401, 0.402])

    tight = relimited(bands, LEVELS, LIMITS, {"min_interval_width": 0.0}, series)
    own = {"min_interval_ticks": 2.0}
    in_ticks = relimited(one_step(0.4, 0.4, 0.4).row(0), LEVELS, LIMITS, own, series)
    single = one_step(0.4).row(0)

    assert tight.y_prob.tolist() == bands.unlimited.tolist()
    assert tight.corrections == (Correction.CLIPPED, Correction.REARRANGED)
    assert np.ptp(in_ticks.y_prob) == pytest.approx(0.002)
    assert in_ticks.corrections == (Correction.WIDENED,)
    assert relimited(single, np.array([0.5]), LIMITS, own, series) is single


def test_a_series_tick_is_the_least_distance_of_its_prices() -> None:
    float32 = np.array([0.1, 0.3, 0.105, 0.3], dtype=np.float32).astype(np.float64)

    assert observed_tick(np.array([0.5, 0.2, np.nan, 0.23])) == pytest.approx(0.03)
    assert observed_tick(float32 + np.array([0, 0, 0, 2e-8])) == pytest.approx(0.005)
    assert observed_tick(np.array([0.5, 0.5])) == np.inf


@pytest.mark.parametrize("space", Space)
def test_inverse_undoes_the_transform_inside_the_bounds_of_eps(space: Space) -> None:
    transform = Transform(space, 1e-6)
    y_prob = np.random.default_rng(1).uniform(1e-5, 1 - 1e-5, (3, 4, 5))

    back = from_model_space(to_model_space(y_prob, transform), transform)
    bounds = from_model_space(to_model_space(np.array([0.0, 1.0]), transform), transform)

    np.testing.assert_allclose(back, y_prob, rtol=1e-9)
    eps = 1e-6 if space is Space.LOGIT else 0.0
    np.testing.assert_allclose(bounds, [eps, 1 - eps], rtol=1e-9)
