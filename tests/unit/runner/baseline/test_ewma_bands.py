import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runner.baseline.ewma_bands import BaselineRequest, baseline_bands, ewma_bands, pad_left
from runner.config.sections import BaselineSection
from runner.types import Space, Transform
from tests.support.builders import LOGIT, make_config, walk

IDENTITY = Transform(Space.IDENTITY, 1e-6)
SETTINGS = BaselineSection(
    half_lives_steps=(3, 24, 288), trust_moves=2.5, level_alphas=(0.5, 0.2), width_factor=0.85
)
LEVELS = np.array([0.1, 0.5, 0.9])
TICKS = [0.0, 1e-9, 0.001, 0.01, 0.02, 0.5, 0.51, 0.97, 0.999, 1.0]


def bands(y, horizon_steps=12, levels=LEVELS, transform=LOGIT, settings=SETTINGS):
    return ewma_bands(np.asarray(y, float), horizon_steps, levels, transform, settings)


def walks(seed, count=5, points=60, moving=1.0):
    """Random walks in log-odds that move in a share of their steps."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_t(3, (count, points)) * 0.1 * (rng.random((count, points)) < moving)
    return 1 / (1 + np.exp(-np.cumsum(steps, axis=1)))


def width(answer):
    return answer[..., -1] - answer[..., 0]


def test_two_points_give_the_documented_formula():
    answer = bands([[0.5, 0.6]], horizon_steps=1)

    active_later = 1.5 / 2
    active_next = (1 + 2 * (1 + 2 * active_later) / 3) / 3
    stay = 1 - active_next
    scale = 0.85 * math.log(0.6 / 0.4) * active_later**-0.4 * 0.6 * 0.4
    spread = math.sqrt(1 / active_next) * (1 - 0.6 * stay)
    t = 0.1 / active_next
    offset = scale * spread * (1 - 2 * t) / math.sqrt(2 * t * (1 - t))
    np.testing.assert_allclose(answer[0, 0], [0.6 - offset, 0.6, 0.6 + offset], rtol=1e-12)


def test_a_quiet_market_keeps_its_central_levels_on_the_last_value_and_its_outer_ones_off_it():
    y = [[0.30] * 150 + [0.32] * 138]

    answer = bands(y, levels=np.array([1e-4, 0.1, 0.5, 0.9, 0.9999]))[0]

    np.testing.assert_array_equal(answer[:, 1:4], 0.32)
    assert np.all(answer[:, 0] < 0.32)
    assert np.all(answer[:, 4] > 0.32)


def test_log_odds_bands_are_as_narrow_near_a_bound_as_the_logistic_curve_is_flat():
    y_logit = np.cumsum(np.random.default_rng(6).normal(0, 0.02, (1, 100)), axis=1)
    middle, edge = (1 / (1 + np.exp(y_logit[:, -1:] - y_logit + shift)) for shift in (0, 4))

    np.testing.assert_allclose(
        width(bands(edge)) / width(bands(middle)), edge[0, -1] * (1 - edge[0, -1]) / 0.25
    )


def test_the_identity_space_measures_moves_in_probability():
    y = walks(7, 1, 100)

    low, high = (bands(0.1 * y + shift, transform=IDENTITY) for shift in (0.2, 0.6))

    np.testing.assert_allclose(high - low, 0.4, rtol=1e-9)


@pytest.mark.parametrize("moving", [1.0, 0.5, 0.2])
def test_the_eighty_percent_band_holds_about_eighty_percent_of_a_walk(moving):
    y = walks(11, 3000, 300, moving)

    answer = bands(y[:, :288])

    inside = (answer[..., 0] <= y[:, 288:]) & (y[:, 288:] <= answer[..., 2])
    assert np.all(inside.mean(axis=0) > 0.67)  # real prices lie on a grid and reach 0.8
    assert np.all(inside.mean(axis=0) < 0.85)


@pytest.mark.parametrize("value", [0.0, 1e-9, 0.3, 1.0])
@pytest.mark.parametrize("points", [2, 3, 288])
def test_a_constant_series_gives_its_own_value(value, points):
    np.testing.assert_array_equal(bands([[value] * points]), value)


@given(
    y=hnp.arrays(
        float,
        st.tuples(st.integers(1, 4), st.integers(2, 40)),
        elements=st.one_of(st.sampled_from(TICKS), st.floats(0, 1)),
    ),
    levels=st.lists(st.integers(1, 999), min_size=1, max_size=21, unique=True),
    horizon_steps=st.integers(1, 30),
    space=st.sampled_from(list(Space)),
)
def test_any_batch_gets_finite_ordered_bands_that_never_narrow(y, levels, horizon_steps, space):
    levels = np.sort(levels) / 1000

    answer = bands(y, horizon_steps, levels, Transform(space, 1e-6))

    assert answer.shape == (len(y), horizon_steps, len(levels))
    assert np.all(np.isfinite(answer))
    assert np.all((answer >= 0) & (answer <= 1))
    assert np.all(np.diff(answer, axis=2) >= -1e-12)
    assert np.all(np.diff(answer[..., levels < 0.5], axis=1) <= 1e-12)
    assert np.all(np.diff(answer[..., levels > 0.5], axis=1) >= -1e-12)


@given(data=st.data(), length=st.integers(2, 60), space=st.sampled_from(list(Space)))
def test_a_row_does_not_depend_on_its_companions(data, length, space):
    row = data.draw(hnp.arrays(float, length, elements=st.sampled_from(TICKS)))
    transform = Transform(space, 1e-6)
    companions = list(walks(14, 3, 75))

    together = bands(pad_left([companions[0], row, *companions[1:]]), transform=transform)

    np.testing.assert_allclose(together[1], bands([row], transform=transform)[0], atol=1e-12)


def test_a_batch_too_large_for_one_piece_is_answered_in_order():
    y = walks(15, 700, 288)

    answer = bands(y)

    np.testing.assert_allclose(answer[[0, 350, 699]], bands(y[[0, 350, 699]]), atol=1e-12)


def test_a_gap_at_the_end_answers_from_the_last_value_that_was_there():
    y = np.append(walks(17, 1, 50)[0], [np.nan, np.nan])

    np.testing.assert_array_equal(bands([y])[0, :, 1], y[49])


CONFIG = make_config()


def ask(*requests: BaselineRequest) -> list[np.ndarray]:
    return [b.y_prob for b in baseline_bands(requests, CONFIG.baseline, CONFIG.bands)]


def request(seed: int, horizon: int = 4, points: int = 50) -> BaselineRequest:
    return BaselineRequest(walk(points, seed), horizon, (0.1, 0.5, 0.9), LOGIT)


def test_mixed_requests_are_answered_in_order_as_if_alone() -> None:
    requests = [request(1), request(2, horizon=7), request(3, points=20), request(4, horizon=7)]

    together = ask(*requests)

    for one, answer in zip(requests, together, strict=True):
        np.testing.assert_allclose(answer, ask(one)[0], rtol=1e-9)


@pytest.mark.parametrize(("ticks", "least"), [(None, 0.02), (1.0, 0.001)])
def test_quiet_market_gets_the_least_width_which_may_be_a_tick(ticks, least):
    quiet = BaselineRequest(np.array([0.401, 0.402, *[0.4] * 48]), 3, (0.4, 0.5, 0.6), LOGIT)
    limits = CONFIG.bands.model_copy(update={"min_interval_ticks": ticks})

    (bands,) = baseline_bands([quiet], CONFIG.baseline, limits)

    np.testing.assert_allclose(bands.y_prob[:, -1] - bands.y_prob[:, 0], least)
    assert bands.corrections == ("interval_widened",)
