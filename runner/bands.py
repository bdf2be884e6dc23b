"""Quantile paths made fit to leave: inside [0, 1], ordered, neither too narrow nor too wide.

Every change is named, so that no correction is silent. Crossed quantiles are rearranged, which
never worsens the pinball loss (Chernozhukov, Fernandez-Val, Galichon, "Quantile and probability
curves without crossing", Econometrica 78(3), 2010). Width limits: customer document, Stage 4.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from runner.sections import BandsSection
from runner.types import Bands, FloatArray

_ROUNDING = 1e-12  # differences below this come from arithmetic, not from the model


class Correction(StrEnum):
    """What was changed in a band; the values are warnings in ``meta``."""

    CLIPPED = "values_clipped"
    REARRANGED = "quantiles_rearranged"
    WIDENED = "interval_widened"
    NARROWED = "interval_narrowed"


@dataclass(frozen=True, slots=True, eq=False)
class Repaired:
    """Safe paths ``(B, H, Q)`` and, per kind of correction, which of the B rows needed it."""

    y_prob: FloatArray
    usable: NDArray[np.bool_]  # (B,): False where a value was not finite
    changed: dict[Correction, NDArray[np.bool_]]  # each (B,)
    before_limits: FloatArray  # (B, H, Q), sound but of any width

    def row(self, b: int) -> Bands:
        """The bands of one series with the names of their corrections."""
        kinds = [kind for kind, rows in self.changed.items() if rows[b]]
        limited = Correction.WIDENED in kinds or Correction.NARROWED in kinds
        names = tuple(kind.value for kind in kinds)
        return Bands(self.y_prob[b], names, self.before_limits[b] if limited else None)


def repair(y_prob: FloatArray, levels: FloatArray, limits: BandsSection) -> Repaired:
    """Paths inside [0, 1], ordered along Q, with outermost widths inside the limits.

    Args:
        y_prob: ``(B, H, Q)`` in probability, possibly out of range, crossed or not finite.
        levels: ``(Q,)`` ascending in (0, 1).
        limits: width limits between the outermost levels; a single level has no width.

    Returns:
        The repaired paths; rows with a value that is not finite are flagged as not usable.
    """
    usable = ~_any(~np.isfinite(y_prob))
    clipped = np.clip(np.where(usable[:, None, None], y_prob, 0.5), 0.0, 1.0)
    ordered = np.sort(clipped, axis=2)
    changed = {
        Correction.CLIPPED: _any(np.abs(clipped - y_prob) > _ROUNDING),
        Correction.REARRANGED: _any(np.diff(clipped, axis=2) < -_ROUNDING),
    }
    if levels.size < 2:
        return Repaired(ordered, usable, changed, ordered)
    width = ordered[..., -1] - ordered[..., 0]
    narrow, wide = width < limits.min_interval_width, width > limits.max_interval_width
    changed[Correction.WIDENED] = _any(narrow[..., None])
    changed[Correction.NARROWED] = _any(wide[..., None])
    before_limits = ordered.copy()
    if narrow.any():
        ordered[narrow] = _widen(ordered[narrow], limits.min_interval_width)
    if wide.any():
        ordered[wide] = _narrow(ordered[wide], levels, limits.max_interval_width)
    return Repaired(ordered, usable, changed, before_limits)


def _any(where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(where.any(axis=(1, 2)))


def _widen(paths: FloatArray, width: float) -> FloatArray:
    """Moves the outermost levels apart about their middle, shifted where a bound is in the way.

    Inner levels stay: they lie between the old outer ones, hence between the new ones.
    """
    low = (paths[:, 0] + paths[:, -1] - width) / 2  # (N, Q) steps that were too narrow
    low = np.clip(low, 0.0, 1.0 - width)
    paths[:, 0] = np.minimum(low, paths[:, 0])
    paths[:, -1] = np.maximum(low + width, paths[:, -1])
    return paths


def _narrow(paths: FloatArray, levels: FloatArray, width: float) -> FloatArray:
    """Shrinks every level towards the one nearest the median: order and bounds are kept."""
    anchor = paths[:, [int(np.argmin(np.abs(levels - 0.5)))]]  # (N, 1)
    scale = width / (paths[:, [-1]] - paths[:, [0]])
    return anchor + (paths - anchor) * scale
