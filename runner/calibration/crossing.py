"""The probability that a price is above a threshold, from the quantiles of a forecast.

Between two quantiles the distribution is linear, and likewise from 0 to the lowest one and from the
highest one to 1. So the probability at a quantile's own value is 1 - its level, and the further
levels are asked for, the less is made of straight lines. Where several quantiles are one value, the
price is there with the probability between them, and "above" does not count it.
"""

from collections.abc import Sequence

import numpy as np

from runner.types import FloatArray


def probability_above(
    y_prob: FloatArray, levels: Sequence[float], thresholds: Sequence[float]
) -> FloatArray:
    """``(H, K)`` for paths ``(H, Q)``, ascending levels ``(Q,)`` and thresholds ``(K,)`` in (0, 1).

    >>> path = np.array([[0.4, 0.5, 0.6], [0.5, 0.5, 0.6]])
    >>> probability_above(path, (0.1, 0.5, 0.9), (0.4, 0.5, 0.55, 0.8)).round(3).tolist()
    [[0.9, 0.5, 0.3, 0.05], [0.92, 0.5, 0.3, 0.05]]
    """
    steps = len(y_prob)
    ends = np.zeros((steps, 1)), np.ones((steps, 1))
    values = np.concatenate([ends[0], y_prob, ends[1]], axis=1)  # (H, Q + 2)
    below = np.array([0.0, *levels, 1.0])
    wanted = np.asarray(thresholds, dtype=np.float64)
    at = (values[:, None, :] <= wanted[None, :, None]).sum(axis=2)  # (H, K), 1 to Q + 2
    right = np.minimum(at, len(below) - 1)
    x0, x1 = (np.take_along_axis(values, i, axis=1) for i in (right - 1, right))
    share = np.where(x1 > x0, (wanted - x0) / np.maximum(x1 - x0, 1e-12), 1.0)
    probability: FloatArray = 1 - (below[right - 1] + share * (below[right] - below[right - 1]))
    return np.clip(probability, 0.0, 1.0)
