"""The sources of bands that are computed in this process: the baseline and the references.

A source takes windows ``(B, T)`` and gives bands ``(B, H, Q)`` at ``LEVELS``.
"""

import warnings
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np

from runner.bands import to_logit, to_prob
from runner.baseline.ewma_bands import ewma_bands
from runner.baseline.scale_estimates import smoothed
from runner.config.loading import Config
from runner.types import FloatArray, Transform
from serve_app.backtest.scores import LEVELS
from serve_app.backtest.windows import Windows

BASELINE = "baseline"
FLAT = "flat recipe"
STATSFORECAST = ("sf Naive", "sf SES", "sf AutoETS")

_EPS = 1e-6
_FLAT_ALPHA = 0.2
_FLAT_STEPS = 12  # the recipe has a fixed horizon
_FLAT_WIDTHS = (0.02, 0.9)  # of the central 80 %
_WALK_DECAY = 0.97
_CONFORMAL_WINDOWS = 4
_Z = np.array([NormalDist().inv_cdf(level) for level in LEVELS.tolist()])
_Z90 = NormalDist().inv_cdf(0.9)


def forecast(name: str, windows: Windows, config: Config) -> FloatArray:
    """Bands ``(B, H, Q)`` at ``LEVELS``, of any width."""
    past, horizon_steps = windows.past, windows.future.shape[1]
    if name == BASELINE:
        transform = Transform(config.transform.space, config.transform.eps)
        return ewma_bands(past, horizon_steps, LEVELS, transform, config.baseline)
    if name in STATSFORECAST:
        return statsforecast_bands(name, past, horizon_steps)
    return REFERENCES[name](past, horizon_steps)


def last_value(y_prob: FloatArray, horizon_steps: int) -> FloatArray:
    """The last price at every level: a band without width."""
    shape = (len(y_prob), horizon_steps, len(LEVELS))
    return np.broadcast_to(y_prob[:, -1, None, None], shape).copy()


def flat_recipe(y_prob: FloatArray, horizon_steps: int) -> FloatArray:
    """One Gaussian band for all steps about an EWMA level, in log-odds, with width limits.

    sigma is the root of 12 times the EWMA of squared one-step errors. The limits hold for the
    central 80 %; the other levels are scaled with it.
    """
    y = to_logit(y_prob, _EPS)
    level = smoothed(y, _FLAT_ALPHA)
    errors = np.hstack([np.zeros((len(y), 1)), (y[:, 1:] - level[:, :-1]) ** 2])
    variance = smoothed(errors, _FLAT_ALPHA)[:, -1]
    spread = np.sqrt(variance * _FLAT_STEPS)[:, None]
    bands = _limited(to_prob(level[:, -1, None] + spread * _Z))
    return np.repeat(bands[:, None, :], horizon_steps, axis=1)


def random_walk(y_prob: FloatArray, horizon_steps: int) -> FloatArray:
    """A Gaussian random walk in log-odds; its variance is an EWMA of squared increments."""
    y = to_logit(y_prob, _EPS)
    variance = smoothed(np.diff(y, axis=1) ** 2, 1 - _WALK_DECAY)[:, -1]
    spread = np.sqrt(variance[:, None] * np.arange(1, horizon_steps + 1))
    return to_prob(y[:, -1, None, None] + spread[..., None] * _Z)


REFERENCES: dict[str, Callable[[FloatArray, int], FloatArray]] = {
    FLAT: flat_recipe,
    "last value": last_value,
    "random walk": random_walk,
}


def statsforecast_bands(name: str, y_prob: FloatArray, horizon_steps: int) -> FloatArray:
    """Bands of statsforecast's models, with statsforecast's intervals; each window is a series.

    Values outside [0, 1] are clipped, crossing levels are sorted. statsforecast has no analytic
    intervals for exponential smoothing: conformal ones are used.
    """
    from statsforecast.models import AutoETS, Naive, SimpleExponentialSmoothingOptimized
    from statsforecast.utils import ConformalIntervals

    intervals = ConformalIntervals(h=horizon_steps, n_windows=_CONFORMAL_WINDOWS)
    ses = SimpleExponentialSmoothingOptimized(prediction_intervals=intervals)
    models = dict(zip(STATSFORECAST, (Naive(), ses, AutoETS(season_length=1)), strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a constant price is a division by zero there
        rows = [_statsforecast_rows(models[name], y, horizon_steps) for y in y_prob]
    return np.sort(np.clip(np.array(rows), 0, 1), axis=2)


def _statsforecast_rows(model: Any, y: FloatArray, horizon_steps: int) -> FloatArray:
    """``(H, Q)``: lower levels outside in, median, upper levels inside out."""
    coverages = [round(200 * level - 100) for level in LEVELS if level > 0.5]
    answer = model.forecast(y=y, h=horizon_steps, level=coverages)
    lower = [answer[f"lo-{coverage}"] for coverage in reversed(coverages)]
    upper = [answer[f"hi-{coverage}"] for coverage in coverages]
    bands: FloatArray = np.stack([*lower, answer["mean"], *upper], axis=1)
    return np.nan_to_num(bands, nan=y[-1])


def _limited(bands: FloatArray) -> FloatArray:
    """Bands ``(B, Q)`` stretched about their median until the central 80 % is inside the limits.

    A band that has no width at all becomes Gaussian, of the least width.
    """
    low, median, high = bands[:, 1:4].T
    width = high - low
    wanted = np.clip(width, *_FLAT_WIDTHS)
    stretch = wanted / np.maximum(width, 1e-12)
    stretched = median[:, None] + (bands - median[:, None]) * stretch[:, None]
    even = median[:, None] + wanted[:, None] * _Z / (2 * _Z90)
    limited: FloatArray = np.where(width[:, None] > 1e-12, stretched, even)
    return np.clip(limited, 0, 1)
