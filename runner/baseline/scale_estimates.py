"""All estimates of the baseline: the scale and frequency of a series' next moves.

Arrays are ``(B,)``, one value a series, unless said otherwise; ``y`` is in model space. Columns of
``(B, T)`` are steps, the newest on the right; averages are computed without a loop over time.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from runner.config.sections import BaselineSection
from runner.types import FloatArray

_NEGLIGIBLE = 1e-12  # a smaller weight does not change the result visibly


@dataclass(frozen=True, slots=True, eq=False)
class Filled:
    """Series without gaps: a missing value repeats the one before it, or the first one.

    ``weight`` of an increment is 1 over the root of the steps it bridges, so that a weighted one is
    worth one step; 0 where it ends in a missing value.
    """

    y: FloatArray  # (B, T), finite
    weight: FloatArray  # (B, T - 1)
    first: NDArray[np.intp]  # (B,) column of the first value that is not missing
    last: NDArray[np.intp]  # (B,) column of the last one


def fill_forward(y: FloatArray) -> Filled:
    """Fills ``(B, T)`` series; NaN is a missing value, every row has one that is not."""
    rows, columns = y.shape
    known = ~np.isnan(y)
    if known.all():
        end = np.full(rows, columns - 1)
        return Filled(y, np.ones((rows, columns - 1)), np.zeros(rows, dtype=np.intp), end)
    here = np.arange(columns)
    first = known.argmax(axis=1)
    source = np.maximum.accumulate(np.where(known, here, first[:, None]), axis=1)  # (B, T)
    bridged = np.maximum(here[1:] - source[:, :-1], 1)
    weight = (known[:, 1:] & (here[1:] > first[:, None])) / np.sqrt(bridged)
    return Filled(np.take_along_axis(y, source, axis=1), weight, first, source[:, -1])


def decayed_sums(values: FloatArray, half_lives_steps: FloatArray) -> FloatArray:
    """Sums ``(B, K)`` of ``(B, T)`` values whose weight halves every ``half_lives_steps`` ``(K,)``.

    >>> decayed_sums(np.array([[8.0, 4.0, 1.0]]), np.array([1.0])).tolist()
    [[5.0]]
    """
    ages = np.arange(values.shape[1])[::-1, None]
    sums: FloatArray = values @ 0.5 ** (ages / half_lives_steps)
    return sums


def smoothed(y: FloatArray, alpha: float) -> FloatArray:
    """The EWMA ``(B, T)`` at every step of ``(B, T)``: level += alpha (value - level).

    It starts at the first value. The recursion is unrolled by doubling (Blelloch, "Prefix Sums and
    Their Applications", 1990): every pass adds twice as many older steps, until the weight of older
    ones is negligible, so the number of passes does not grow with the series.

    >>> smoothed(np.array([[0.0, 8.0, 8.0]]), 0.5).tolist()
    [[0.0, 4.0, 6.0]]
    """
    start = y[:, :1]
    level = alpha * (y - start)
    reach = 1
    while reach < y.shape[1] and (1 - alpha) ** reach > _NEGLIGIBLE:
        level[:, reach:] += level[:, :-reach] * (1 - alpha) ** reach
        reach *= 2
    smooth: FloatArray = start + level
    return smooth


# Fitted on each half of the event groups of 759 market series; the two fits agree, and the score
# is flat round each value.
_ACTIVITY_PRIOR_STEPS = 2.0  # weight of the longer memory's activity, in steps
_RATIO_LAG = 8  # long enough for reversed moves, short enough for a few dozen points
_RATIO_PRIOR = 0.05  # keeps a ratio near 0 from closing the band
_RATIO_POWER = 0.25  # of its root, half in logarithm: few independent intervals are behind it

_SAME = 1e-9  # an increment below this is rounding, not a move
_TINY = 1e-300  # 0 / 0 comes out as 0
# A smoothed level is considered only if most of a move is reversed, and must then beat the last
# value by exp(5) in likelihood and by a tenth in error: on real markets, averages that were better
# by less later predicted worse than the last price, which is most often the next price too.
_REVERSED = 0.4
_EVIDENCE = 5.0
_EVIDENCE_PER_MOVE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class ScaleEstimates:
    """The estimates of a batch; ``move`` is less if moves tend to be reversed."""

    level: FloatArray  # the current value, model space
    sticky: FloatArray  # 1: the level is the last value, 0: an average, between: a mixture
    move: FloatArray  # mean absolute one-step error about the level, model space
    growth: FloatArray  # share of the one-step variance added by each further step, 1: random walk
    active_next: FloatArray  # chance that the next step moves, inside (0, 1)
    active_later: FloatArray  # the same for any later step


def estimate_scales(series: Filled, settings: BaselineSection) -> ScaleEstimates:
    """The estimates for ``(B, T)`` series in model space, two values or more in each."""
    size = np.abs(np.diff(series.y, axis=1)) * series.weight  # (B, T - 1)
    move, active_next, active_later = _pace(series, size, settings)
    ratio = _variance_ratio(series, size)
    net_move, one = move * ratio**_RATIO_POWER, np.ones_like(move)
    scales = ScaleEstimates(series.y[:, -1], one, net_move, one, active_next, active_later)
    noisy = np.flatnonzero(ratio < _REVERSED)
    if noisy.size and settings.level_alphas:
        scales = _with_smooth_levels(scales, move, series, size, noisy, settings.level_alphas)
    return scales


def _pace(
    series: Filled, size: FloatArray, settings: BaselineSection
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean move per step, chance of a move in the next step, chance of one in a later step.

    From the longest memory to the shortest, each estimate is the shorter memory's own, pulled
    towards the longer one's: with n moves in its (decayed) window it counts n / (n + trust_moves)
    for the size, and with n known steps n / (n + _ACTIVITY_PRIOR_STEPS) for the activity
    (credibility: Buehlmann, "Experience Rating and Credibility", ASTIN Bulletin 4(3), 1967).
    """
    half_lives_steps = np.array(settings.half_lives_steps)
    total = decayed_sums(size, half_lives_steps).T  # (K, B)
    count = decayed_sums((size > _SAME).astype(float), half_lives_steps).T
    steps = decayed_sums((series.weight > 0).astype(float), half_lives_steps).T
    move = total[-1] / (steps[-1] + _TINY)
    later = active = (count[-1] + 0.5) / (steps[-1] + 1)  # never 0 or 1 (Krichevsky-Trofimov)
    for own, n_moves, n_steps in zip(total[-2::-1], count[-2::-1], steps[-2::-1], strict=True):
        trust = n_moves / (n_moves + settings.trust_moves)
        move = move + trust * (own / (n_steps + _TINY) - move)
        active = (n_moves + _ACTIVITY_PRIOR_STEPS * active) / (n_steps + _ACTIVITY_PRIOR_STEPS)
    return move, active, later


def _variance_ratio(series: Filled, size: FloatArray) -> FloatArray:
    """Variance of 8-step increments over 8 times that of one-step ones, 1 for a random walk.

    Lo and MacKinlay, "Stock Market Prices Do Not Follow Random Walks", Review of Financial Studies
    1(1), 1988; without their correction for the mean. 1 where there are too few points.
    """
    far = series.y[:, _RATIO_LAG:] - series.y[:, :-_RATIO_LAG]
    if series.first.any():
        far *= np.arange(far.shape[1]) >= series.first[:, None]  # nothing starts in the padding
    pairs = np.maximum(series.y.shape[1] - _RATIO_LAG - series.first, 0)
    steps = np.maximum(np.count_nonzero(series.weight, axis=1), 1)  # 0 for a single value
    one = np.einsum("bt,bt->b", size, size) / steps
    many = np.einsum("bt,bt->b", far, far) / (_RATIO_LAG * np.maximum(pairs, 1))
    ratio = np.where((pairs > 0) & (one > 0), many / (one + _TINY), 1.0)
    shrunk: FloatArray = (ratio + _RATIO_PRIOR) / (1 + _RATIO_PRIOR)
    return shrunk


def _with_smooth_levels(
    scales: ScaleEstimates,
    move: FloatArray,
    series: Filled,
    size: FloatArray,
    rows: NDArray[np.intp],
    alphas: tuple[float, ...],
) -> ScaleEstimates:
    """The estimates with an EWMA level in those rows where it predicts the next value better.

    The smoothing is chosen by the one-step error: with Laplace errors of mean size E the
    likelihood of n moves is E**-n, and smoothings share the level in proportion to it. The
    variance then grows by alpha**2 a step (Hyndman, Koehler, Ord and Snyder, "Forecasting with
    Exponential Smoothing", 2008, table 6.1).
    """
    y, n = series.y[rows], np.count_nonzero(size[rows] > _SAME, axis=1)
    paths = [smoothed(y, alpha) for alpha in alphas]
    weight = series.weight[rows]
    errors = [(np.abs(y[:, 1:] - path[:, :-1]) * weight).sum(axis=1) for path in paths]
    ratios = np.array(errors) / size[rows].sum(axis=1)  # (A, rows)
    gains = -n * np.log(ratios + _TINY) - _EVIDENCE_PER_MOVE * n - _EVIDENCE
    best = gains.max(axis=0)
    shares = np.exp(gains - best)
    shares *= np.clip(best / _EVIDENCE, 0, 1) / shares.sum(axis=0)  # the rest: the last value

    def blended(value: FloatArray, others: FloatArray) -> FloatArray:
        mixed = value.copy()
        mixed[rows] += (shares * (others - value[rows])).sum(axis=0)
        return mixed

    return replace(
        scales,
        level=blended(scales.level, np.array([path[:, -1] for path in paths])),
        sticky=blended(scales.sticky, np.zeros_like(shares)),
        move=blended(scales.move, move[rows] * ratios),
        growth=blended(scales.growth, np.array(alphas)[:, None] ** 2 + np.zeros_like(shares)),
    )
