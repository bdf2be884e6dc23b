import numpy as np
import pytest

from runner.baseline import ewma_bands, pad_left
from runner.config import BaselineSection
from runner.types import Space, Transform

LOGIT = Transform(Space.LOGIT, 1e-6)
SETTINGS = BaselineSection(scale_half_life_steps=23)
LEVELS = np.array([0.1, 0.5, 0.9])


def bands(y, horizon_steps=12, levels=LEVELS, transform=LOGIT):
    return ewma_bands(np.asarray(y, float), horizon_steps, levels, transform, SETTINGS)


def walk(seed, count=5, points=60):
    steps = np.random.default_rng(seed).normal(0, 0.2, (count, points))
    return 1 / (1 + np.exp(-np.cumsum(steps, axis=1)))


@pytest.mark.parametrize("space", list(Space))
def test_bands_are_finite_ordered_and_inside_the_unit_interval(space):
    answer = bands(walk(1), transform=Transform(space, 1e-6))

    assert answer.shape == (5, 12, 3)
    assert np.all(np.isfinite(answer))
    assert np.all((answer >= 0) & (answer <= 1))
    assert np.all(np.diff(answer, axis=2) >= 0)


def test_bands_widen_with_the_horizon():
    answer = bands(walk(2))

    assert np.all(np.diff(answer[:, :, 2] - answer[:, :, 0], axis=1) > 0)


@pytest.mark.parametrize("value", [0.0, 1e-9, 0.3, 1.0])
def test_constant_series_gives_its_own_value(value):
    np.testing.assert_allclose(bands([[value, value]]), value, atol=1e-6)


def test_padding_does_not_change_a_row():
    short, long = walk(3, 1, 20)[0], walk(4, 1, 50)[0]

    together = bands(pad_left([short, long]))

    np.testing.assert_allclose(together[:1], bands([short]), rtol=1e-12)
    np.testing.assert_allclose(together[1:], bands([long]), rtol=1e-12)
