"""The probability that a price is above a threshold, from the quantiles of a forecast.

Between two quantiles, and beyond the outermost ones, a normal distribution is drawn through two of
them: its score z, with probability Phi(z) of a price at most x, is a straight line in x. Beyond the
outermost quantile the line is that through it and the level next to the median. So the probability
at a quantile's own value is 1 - its level. Where several quantiles are one value, the price is
there with the probability between them, and "above" does not count it.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from runner.types import FloatArray

_NORMAL = NormalDist()
_PHI = np.frompyfunc(_NORMAL.cdf, 1, 1)


def probability_above(
    y_prob: FloatArray, levels: Sequence[float], thresholds: Sequence[float]
) -> FloatArray:
    """``(H, K)`` for paths ``(H, Q)``, at least two ascending levels and thresholds ``(K,)``.

    >>> path = np.array([[0.4, 0.5, 0.6], [0.5, 0.5, 0.6]])
    >>> probability_above(path, (0.1, 0.5, 0.9), (0.4, 0.5, 0.55, 0.7)).round(3).tolist()
    [[0.9, 0.5, 0.261, 0.005], [1.0, 0.5, 0.261, 0.005]]
    """
    z = np.array([_NORMAL.inv_cdf(level) for level in levels])
    wanted, top = np.asarray(thresholds, dtype=np.float64), len(levels) - 1
    middle = int(np.abs(z).argmin())
    at = (y_prob[:, None, :] <= wanted[None, :, None]).sum(axis=2)  # (H, K), 0 to Q
    below, above = at == 0, at > top
    first = np.where(below, 0, np.where(above, middle if middle < top else 0, at - 1))
    second = np.where(below, middle or top, np.minimum(at, top))
    near = np.where(above, top, np.maximum(at - 1, 0))  # the line passes through this quantile
    x0, x1, x = (np.take_along_axis(y_prob, i, axis=1) for i in (first, second, near))
    away = wanted - x
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        steps = np.where(away == 0, 0.0, away / (x1 - x0) * (z[second] - z[first]))
    probability: FloatArray = 1 - _PHI(z[near] + steps).astype(np.float64)
    return probability
