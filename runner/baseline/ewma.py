"""Exponentially weighted averages of a whole batch at once: no loop over time.

Rows are series, columns are steps, the newest on the right. Nothing here is specific to prices.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.types import FloatArray

_NEGLIGIBLE = 1e-12  # a smaller weight does not change the result visibly


@dataclass(frozen=True, slots=True, eq=False)
class Filled:
    """Series without gaps: a missing value repeats the one before it, or the first one.

    Attributes:
        y: ``(B, T)`` finite values.
        weight: ``(B, T - 1)``, of each increment: 1 over the root of the steps it bridges, so that
            a weighted increment is worth one step; 0 where it ends in a missing value.
        first: ``(B,)`` column of the first value that is not missing.
        last: ``(B,)`` column of the last one.
    """

    y: FloatArray
    weight: FloatArray
    first: NDArray[np.intp]
    last: NDArray[np.intp]


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
