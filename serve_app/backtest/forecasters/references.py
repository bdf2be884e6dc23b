"""Reference forecasts: ``(B, T)`` probabilities in, ``(B, H, Q)`` out.

All are vectorised over the windows; Gaussian quantiles come from the standard library.
"""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from runner.baseline.ewma import smoothed
from runner.logit import to_logit, to_prob
from runner.types import FloatArray

Reference = Callable[[FloatArray, int, FloatArray, FloatArray], FloatArray]

_EPS = 1e-6
_FLAT_ALPHA = 0.2
_FLAT_STEPS = 12  # the recipe has a fixed horizon
_FLAT_WIDTHS = (0.02, 0.9)  # of the central 80 %
_WALK_DECAY = 0.97
_DAY_S = 86_400


def last_value(
    y_prob: FloatArray, horizon_steps: int, levels: FloatArray, step_s: FloatArray
) -> FloatArray:
    """The last price at every level: a band without width."""
    shape = (len(y_prob), horizon_steps, len(levels))
    return np.broadcast_to(y_prob[:, -1, None, None], shape).copy()


def flat_recipe(
    y_prob: FloatArray, horizon_steps: int, levels: FloatArray, step_s: FloatArray
) -> FloatArray:
    """One Gaussian band for all steps about an EWMA level, in log-odds, with width limits.

    sigma is the root of 12 times the EWMA of squared one-step errors. The limits hold for the
    central 80 %; the other levels are scaled with it.
    """
    y = to_logit(y_prob, _EPS)
    level = smoothed(y, _FLAT_ALPHA)
    errors = np.hstack([np.zeros((len(y), 1)), (y[:, 1:] - level[:, :-1]) ** 2])
    variance = smoothed(errors, _FLAT_ALPHA)[:, -1]
    spread = np.sqrt(variance * _FLAT_STEPS)[:, None]
    centre, z = level[:, -1, None], _gaussian(levels)
    tenths = to_prob(centre + spread * _gaussian(np.array([0.1, 0.5, 0.9])))
    bands = _limited(to_prob(centre + spread * z), tenths, z)
    return np.repeat(bands[:, None, :], horizon_steps, axis=1)


def random_walk(
    y_prob: FloatArray, horizon_steps: int, levels: FloatArray, step_s: FloatArray
) -> FloatArray:
    """A Gaussian random walk in log-odds; its variance is an EWMA of squared increments."""
    y = to_logit(y_prob, _EPS)
    variance = smoothed(np.diff(y, axis=1) ** 2, 1 - _WALK_DECAY)[:, -1]
    spread = np.sqrt(variance[:, None] * np.arange(1, horizon_steps + 1))
    return to_prob(y[:, -1, None, None] + spread[..., None] * _gaussian(levels))


def seasonal_naive(
    y_prob: FloatArray, horizon_steps: int, levels: FloatArray, step_s: FloatArray
) -> FloatArray:
    """The price a day before, Gaussian with the spread of the day-to-day differences.

    The last value where the window is shorter than a day.
    """
    bands = last_value(y_prob, horizon_steps, levels, step_s)
    season = np.rint(_DAY_S / step_s).astype(int)
    for steps in np.unique(season):
        rows = season == steps
        if horizon_steps <= steps <= y_prob.shape[1]:
            bands[rows] = _seasonal(y_prob[rows], steps, horizon_steps, levels)
    return bands


REFERENCES: dict[str, Reference] = {
    "flat recipe": flat_recipe,
    "last value": last_value,
    "random walk": random_walk,
    "seasonal naive": seasonal_naive,
}


def _seasonal(y: FloatArray, steps: int, horizon_steps: int, levels: FloatArray) -> FloatArray:
    yesterday = y[:, y.shape[1] - steps :][:, :horizon_steps]
    differences = y[:, steps:] - y[:, : y.shape[1] - steps]
    spread = np.sqrt((differences**2).sum(axis=1) / max(1, differences.shape[1]))
    bands: FloatArray = yesterday[..., None] + spread[:, None, None] * _gaussian(levels)
    return np.clip(bands, 0, 1)


def _gaussian(levels: FloatArray) -> FloatArray:
    return np.array([NormalDist().inv_cdf(float(level)) for level in levels])


def _limited(bands: FloatArray, tenths: FloatArray, z: FloatArray) -> FloatArray:
    """Bands ``(B, Q)`` stretched about their median until the central 80 % is inside the limits.

    ``tenths`` ``(B, 3)`` are their quantiles 0.1, 0.5 and 0.9; ``z`` ``(Q,)`` places the levels of
    a band that has no width at all.
    """
    low, median, high = tenths.T
    width = high - low
    wanted = np.clip(width, *_FLAT_WIDTHS)
    stretch = wanted / np.maximum(width, 1e-12)
    stretched = median[:, None] + (bands - median[:, None]) * stretch[:, None]
    even = median[:, None] + wanted[:, None] * z / (2 * NormalDist().inv_cdf(0.9))
    limited: FloatArray = np.where(width[:, None] > 1e-12, stretched, even)
    return np.clip(limited, 0, 1)
