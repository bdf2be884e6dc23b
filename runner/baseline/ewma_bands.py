"""The EWMA baseline: calibrated quantile bands for a whole batch at once, from two points up.

Deterministic, numpy only; it cannot fail on validated input. A price on a prediction market does
not change most of the time, then jumps. So, h steps ahead, the answer is a mixture
(after Croston, "Forecasting and Stock Control for Intermittent Demands", Operational Research
Quarterly 23(3), 1972, who estimates frequency and size apart):

    with probability stay(h)        the last value, exactly
    otherwise                       level + scale(h) T,   T Student with 2 degrees of freedom

    stay(h)  = (1 - active_next) (1 - active_later)^(h - 1)
    scale(h) = width_factor move active_later^-0.4 slope spread(h)
    spread(h) = sqrt((1 + (h - 1) growth) / (1 - stay(h))) (1 - 0.6 stay(h))

Its quantiles are in closed form: with t = tau / (1 - stay), the lower quantile is the level where
t >= 1/2, else level - scale (1 - 2 t) / sqrt(2 t (1 - t)); the upper ones mirror it. In a quiet
market the central quantiles therefore are equal to the last value while the outer ones are not,
and the band never narrows with h. The estimates come from ``runner/baseline/scale_estimates.py``:

* move, active: EWMAs of the absolute increment and of "it moved", in several memories at once
  (Zumbach, "The RiskMetrics 2006 Methodology", 2007). A short memory has the more
  weight the more moves it holds, so the smoothing of the scale follows the series. The move is
  discounted by a variance ratio where moves tend to be reversed.
* level and growth: the last value and a random walk's growth of 1, unless an average predicts the
  next value clearly better; then that average and the square of its smoothing.
* active_later^-0.4: the same movement a step spreads farther in a few large moves than in many
  small ones. The power would be 0.5 if moves were independent and 0 if only their sum counted;
  they come in bursts. Dividing by 1 - stay is the same argument over h steps.
* 1 - 0.6 stay: a band that holds the last value, with prices on a grid, covers too much;
  this factor corrects the early steps, for under 0.1 % of pinball loss.

Tails: the outer quantiles of real moves ask for more than four degrees of freedom give; two have
the simplest quantile there is (Jones, "Student's Simplest Distribution", The Statistician 51(1),
2002). Only quantiles are used, so it does not matter that the variance is infinite.

Near the bounds: moves are measured in log-odds, where they are alike at all prices, and carried to
probability by the slope p (1 - p) of the logistic curve. The band is symmetric in probability: a
price is close to a martingale, so up and down must balance there; a band symmetric in log-odds is
shifted away from the bound and scores worse. The identity space measures moves in probability.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runner.bands import from_model_space, min_widths, sanitize, to_model_space
from runner.baseline.scale_estimates import ScaleEstimates, estimate_scales, fill_forward
from runner.config.sections import BandsSection, BaselineSection
from runner.types import Bands, FloatArray, Space, Transform

# Fitted on each half of the event groups of 759 market series; the two fits agree to a tenth.
_BURST_POWER = 0.4
_ATOM_SHADE = 0.6
_CHUNK_CELLS = 65_536  # half a megabyte: larger arrays do not fit into the processor's cache


def ewma_bands(
    y_prob: FloatArray,
    horizon_steps: int,
    levels: FloatArray,
    transform: Transform,
    settings: BaselineSection,
) -> FloatArray:
    """Quantile bands ``(B, H, Q)`` in probability: finite, inside [0, 1], ordered along Q.

    A row does not depend on the other rows or on their padding.

    Args:
        y_prob: ``(B, T)`` probabilities; NaN is a missing value, and every row has two others.
        horizon_steps: H, at least 1.
        levels: ``(Q,)`` ascending inside (0, 1).
        transform: the space in which moves are measured.
        settings: parameters of the estimates.
    """
    cells_a_row = max(y_prob.shape[1], horizon_steps * len(levels))
    rows = max(1, _CHUNK_CELLS // cells_a_row)
    chunks = [y_prob[start : start + rows] for start in range(0, len(y_prob), rows)]
    return np.concatenate([_bands(y, horizon_steps, levels, transform, settings) for y in chunks])


def pad_left(series: Sequence[FloatArray]) -> FloatArray:
    """Series of different lengths as one ``(B, T)`` array, NaN on the left of the shorter ones."""
    width = max(len(y) for y in series)
    padded = np.full((len(series), width), np.nan)
    for row, y in zip(padded, series, strict=True):
        row[width - len(y) :] = y
    return padded


def _bands(
    y_prob: FloatArray,
    horizon_steps: int,
    levels: FloatArray,
    transform: Transform,
    settings: BaselineSection,
) -> FloatArray:
    filled = fill_forward(to_model_space(y_prob, transform))
    scales = estimate_scales(filled, settings)
    steps = np.arange(float(horizon_steps))  # (H,), steps after the first
    stay = _stay(scales, steps)  # (B, H)
    moving = 1 - stay
    spread = np.sqrt((1 + steps * scales.growth[:, None]) / moving) * (1 - _ATOM_SHADE * stay)
    scale = settings.width_factor * scales.move * scales.active_later**-_BURST_POWER
    scale *= _slope(scales.level, transform)
    moved = from_model_space(scales.level, transform) - from_model_space(filled.y[:, -1], transform)
    centre = y_prob[np.arange(len(y_prob)), filled.last] + moved  # exact when the level is the last
    offsets = (scale[:, None] * spread)[..., None] * _mixture_quantiles(levels, moving[..., None])
    bands: FloatArray = np.clip(centre[:, None, None] + offsets, 0, 1)
    return bands


def _stay(scales: ScaleEstimates, steps: FloatArray) -> FloatArray:
    """Probability ``(B, H)`` of no move up to each step."""
    later: FloatArray = (1 - scales.active_later)[:, None] ** steps
    return (scales.sticky * (1 - scales.active_next))[:, None] * later


def _mixture_quantiles(levels: FloatArray, moving: FloatArray) -> FloatArray:
    """Quantiles of "0, or with chance ``moving`` a Student t with 2 degrees of freedom"."""
    tail = np.minimum(np.minimum(levels, 1 - levels) / moving, 0.5)
    quantiles: FloatArray = np.sign(levels - 0.5) * (1 - 2 * tail) / np.sqrt(2 * tail * (1 - tail))
    return quantiles


def _slope(level: FloatArray, transform: Transform) -> FloatArray:
    """Probability per unit of model space, ``(B,)``."""
    if transform.space is Space.IDENTITY:
        return np.ones_like(level)
    p = from_model_space(level, transform)
    slope: FloatArray = p * (1 - p)
    return slope


@dataclass(frozen=True, slots=True, eq=False)
class BaselineRequest:
    """One series for the baseline: ``(T,)`` probability, NaN where nothing was observed."""

    y_prob: FloatArray
    horizon_steps: int
    levels: tuple[float, ...]
    transform: Transform


def baseline_bands(
    requests: Sequence[BaselineRequest], baseline: BaselineSection, limits: BandsSection
) -> list[Bands]:
    """Bands for each request, in order; those with equal other fields are computed together."""
    groups: defaultdict[tuple[int, tuple[float, ...], Transform], list[int]] = defaultdict(list)
    for i, request in enumerate(requests):
        groups[request.horizon_steps, request.levels, request.transform].append(i)
    answers: dict[int, Bands] = {}
    for (horizon_steps, quantiles, transform), rows in groups.items():
        levels = np.asarray(quantiles)
        y_prob = pad_left([requests[i].y_prob for i in rows])
        paths = ewma_bands(y_prob, horizon_steps, levels, transform, baseline)
        sanitized = sanitize(paths, levels, limits, min_widths(y_prob, limits))
        answers.update((i, sanitized.row(b)) for b, i in enumerate(rows))
    return [answers[i] for i in range(len(requests))]
