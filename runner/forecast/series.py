"""A market's observations on the regular grid that ends at ``as_of_ts``, gaps counted and filled.

The grid is what models understand; what was observed is what the gate judges.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from runner.types import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class RegularSeries:
    """The last T steps of a market, one value a step.

    Attributes:
        y_prob: ``(T,)`` with the last known value carried forward over gaps; finite.
        observed_prob: ``(T,)`` with NaN where a step saw no observation.
        x_past: covariates on the same grid, each ``(T,)``.
        points: how many steps hold a real observation.
        longest_gap_minutes: the longest stretch of steps without an observation.
    """

    y_prob: FloatArray
    observed_prob: FloatArray
    x_past: Mapping[str, FloatArray]
    points: int
    longest_gap_minutes: float

    @property
    def gaps_filled(self) -> int:
        """How many steps were filled forward."""
        return self.observed_prob.size - self.points


def regularise(
    y_prob: FloatArray,
    y_ts: FloatArray | None,
    x_past: Mapping[str, FloatArray],
    step_s: int,
    max_steps: int,
) -> RegularSeries:
    """At most ``max_steps`` steps of ``step_s`` seconds that end at the last time.

    Args:
        y_prob: ``(N,)`` in [0, 1], NaN where the caller had no value; at least one is finite.
        y_ts: ``(N,)`` strictly increasing POSIX seconds, or None for a regular series.
        x_past: covariates, each ``(N,)``, finite.
        step_s: grid step in seconds.
        max_steps: how many steps to keep.
    """
    window = y_prob[-max_steps:]
    if y_ts is None and not np.isnan(window).any():  # the rule: nothing to lay out or to fill
        covariates = {name: x[-max_steps:] for name, x in x_past.items()}
        return RegularSeries(window, window, covariates, window.size, 0.0)
    regular: FloatArray = np.arange(y_prob.size, dtype=np.float64) * step_s
    times = regular if y_ts is None else y_ts
    return _on_grid(y_prob, times, x_past, step_s, max_steps)


def _on_grid(
    y_prob: FloatArray,
    times: FloatArray,
    x_past: Mapping[str, FloatArray],
    step_s: int,
    max_steps: int,
) -> RegularSeries:
    first = int(np.argmax(np.isfinite(y_prob)))  # nothing to carry forward before the first value
    times, values = times[first:], y_prob[first:]
    steps = min(max_steps, int((times[-1] - times[0]) // step_s) + 1)
    grid = times[-1] - step_s * np.arange(steps - 1, -1, -1, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(values))
    last = np.searchsorted(times[known], grid + _TOLERANCE_S, side="right") - 1
    taken = known[last]  # (T,) index of the newest value at or before each step
    fresh = times[taken] > grid - step_s + _TOLERANCE_S
    y = values[taken]
    beside = np.searchsorted(times, grid + _TOLERANCE_S, side="right") - 1
    covariates = {name: x[first:][beside] for name, x in x_past.items()}
    observed, points = np.where(fresh, y, np.nan), int(fresh.sum())
    return RegularSeries(y, observed, covariates, points, _longest_gap(fresh, step_s))


_TOLERANCE_S = 1e-3  # time stamps are written to the millisecond at best


def _longest_gap(fresh: np.ndarray, step_s: int) -> float:
    """Minutes of the longest run of steps without an observation."""
    edges = np.flatnonzero(np.concatenate(([True], fresh, [True])))
    return float((np.diff(edges).max() - 1) * step_s / 60.0)
