"""The calibrated EWMA baseline: quantile bands for a whole batch at once, from two points up.

Pure: no clock, no chance, numpy only; it cannot fail on validated input. The level is the last
value, the variance of the one-step increments is an EWMA (RiskMetrics, J.P. Morgan 1996, section
5.2), the band widens with the square root of the step, and the tails are those of a Student t with
four degrees of freedom, whose quantile has a closed form (Shaw, "Sampling Student's T
distribution", J. Computational Finance 9(4), 2006).
"""

from collections.abc import Sequence

import numpy as np

from runner.config import BaselineSection
from runner.types import FloatArray, Space, Transform


def ewma_bands(
    y_prob: FloatArray,
    horizon_steps: int,
    levels: FloatArray,
    transform: Transform,
    settings: BaselineSection,
) -> FloatArray:
    """Quantile bands ``(B, H, Q)`` in probability: finite, inside [0, 1], ordered along Q.

    Args:
        y_prob: ``(B, T)`` probabilities; NaN is a missing value, and every row has two others.
        horizon_steps: H, at least 1.
        levels: ``(Q,)`` quantile levels, ascending inside (0, 1).
        transform: the space the bands are built in.
        settings: what the operator can change.
    """
    y = _to_space(_fill_forward(y_prob), transform)  # (B, T), NaN on the left only
    scale = _scale(y, y_prob, settings)  # (B,)
    steps = np.sqrt(np.arange(1.0, horizon_steps + 1))  # (H,)
    spread = scale[:, None, None] * steps[:, None] * _unit_quantiles(levels)  # (B, H, Q)
    return _to_prob(y[:, -1, None, None] + spread, transform)


def pad_left(series: Sequence[FloatArray]) -> FloatArray:
    """Series of different lengths as one ``(B, T)`` array, NaN on the left of the shorter ones."""
    width = max(len(y) for y in series)
    padded = np.full((len(series), width), np.nan)
    for row, y in zip(padded, series, strict=True):
        row[width - len(y) :] = y
    return padded


def _fill_forward(y: FloatArray) -> FloatArray:
    """Missing values take the last one before them."""
    seen = np.where(np.isnan(y), 0, np.arange(y.shape[1]))
    return np.take_along_axis(y, np.maximum.accumulate(seen, axis=1), axis=1)


def _scale(y: FloatArray, y_prob: FloatArray, settings: BaselineSection) -> FloatArray:
    """Standard deviation ``(B,)`` of a one-step increment, by EWMA; a gap counts as no move."""
    squares = np.nan_to_num(np.diff(y, axis=1)) ** 2
    known = ~np.isnan(y[:, :-1])
    ages = np.arange(squares.shape[1])[::-1]
    weights = 0.5 ** (ages / settings.scale_half_life_steps)
    variance: FloatArray = squares @ weights / (known @ weights)
    return np.sqrt(variance)


def _unit_quantiles(levels: FloatArray) -> FloatArray:
    """Quantiles of a Student t with 4 degrees of freedom and variance 1 (Shaw 2006, eq. 37)."""
    root = np.sqrt(4 * levels * (1 - levels))
    tail = np.cos(np.arccos(root) / 3) / root
    quantiles: FloatArray = np.sign(levels - 0.5) * 2 * np.sqrt(np.maximum(tail - 1, 0)) / 2**0.5
    return quantiles


def _to_space(y_prob: FloatArray, transform: Transform) -> FloatArray:
    if transform.space is Space.IDENTITY:
        return y_prob
    p = np.clip(y_prob, transform.eps, 1 - transform.eps)
    y_logit: FloatArray = np.log(p) - np.log1p(-p)
    return y_logit


def _to_prob(y: FloatArray, transform: Transform) -> FloatArray:
    if transform.space is Space.IDENTITY:
        return np.clip(y, 0, 1)
    y_prob: FloatArray = 0.5 * (1 + np.tanh(y / 2))
    return y_prob
