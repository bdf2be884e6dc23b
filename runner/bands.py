"""The space of the model's values, and the corrections of its quantile paths.

Log-odds: a probability p becomes log(p / (1 - p)) after clipping to [eps, 1 - eps], so a market at
exactly 0 or 1 maps to about -13.8 or 13.8 with the default eps of 1e-6 (customer document,
"Defaults (v0)").

Corrected paths are inside [0, 1], ordered, neither too narrow nor too wide. Every kind of
correction is a warning in the answer. Crossed quantiles are rearranged, which never worsens the
pinball loss (Chernozhukov, Fernandez-Val, Galichon, "Quantile and probability curves without
crossing", Econometrica 78(3), 2010). Width limits: customer document, Stage 4.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from runner.config.sections import BandsSection
from runner.types import Bands, FloatArray, Space, Transform

_ROUNDING = 1e-12  # differences below this come from arithmetic, not from the model
_SAME_PRICE = 1e-7  # a smaller distance is the rounding of a float32


class Correction(StrEnum):
    """What was changed in a band; the values are warnings in ``meta``."""

    CLIPPED = "values_clipped"
    REARRANGED = "quantiles_rearranged"
    WIDENED = "interval_widened"
    NARROWED = "interval_narrowed"


_OF_LIMITS = (Correction.WIDENED, Correction.NARROWED)


@dataclass(frozen=True, slots=True, eq=False)
class SanitizedBands:
    """Corrected paths ``(B, H, Q)`` and, per kind of correction, which of the B rows had it."""

    y_prob: FloatArray
    usable: NDArray[np.bool_]  # (B,): False where a value was not finite
    changed: dict[Correction, NDArray[np.bool_]]  # each (B,)
    before_limits: FloatArray  # (B, H, Q), before the width limits

    def row(self, b: int) -> Bands:
        """The bands of one series with the names of their corrections."""
        kinds = [kind for kind, rows in self.changed.items() if rows[b]]
        limited = any(kind in _OF_LIMITS for kind in kinds)
        names = tuple(kind.value for kind in kinds)
        return Bands(self.y_prob[b], names, self.before_limits[b] if limited else None)


def sanitize(
    y_prob: FloatArray,
    levels: FloatArray,
    limits: BandsSection,
    min_width: FloatArray | None = None,
) -> SanitizedBands:
    """Paths inside [0, 1], ordered along Q, with outermost widths inside the limits.

    Args:
        y_prob: ``(B, H, Q)`` in probability, possibly out of range, crossed or not finite.
        levels: ``(Q,)`` ascending in (0, 1); a single level has no width.
        limits: of the width between the outermost levels.
        min_width: ``(B,)`` from `min_widths`; None: ``limits.min_interval_width`` for all.
    """
    usable = ~_any(~np.isfinite(y_prob))
    clipped = np.clip(np.where(usable[:, None, None], y_prob, 0.5), 0.0, 1.0)
    ordered = np.sort(clipped, axis=2)
    changed = {
        Correction.CLIPPED: _any(np.abs(clipped - y_prob) > _ROUNDING),
        Correction.REARRANGED: _any(np.diff(clipped, axis=2) < -_ROUNDING),
    }
    if levels.size < 2:
        return SanitizedBands(ordered, usable, changed, ordered)
    least = np.full(len(ordered), limits.min_interval_width) if min_width is None else min_width
    paths, limited = _within_limits(ordered, levels, least, limits.max_interval_width)
    return SanitizedBands(paths, usable, changed | limited, ordered)


def relimited(
    bands: Bands, levels: FloatArray, limits: BandsSection, own: Mapping[str, float], y: FloatArray
) -> Bands:
    """The bands of the series ``y`` ``(T,)``, where limits of the request's ``own`` come first."""
    if levels.size < 2:
        return bands
    width = own.get("min_interval_width", limits.min_interval_width)
    least = least_width(y, width, own.get("min_interval_ticks", limits.min_interval_ticks))
    before, most = bands.unlimited[None], limits.max_interval_width
    paths, limited = _within_limits(before, levels, np.array([least]), most)
    again = SanitizedBands(paths, np.ones(1, dtype=bool), limited, before).row(0)
    kept = [name for name in bands.corrections if name not in _OF_LIMITS]
    return replace(again, corrections=(*kept, *again.corrections))


def _within_limits(
    ordered: FloatArray, levels: FloatArray, least: FloatArray, most: float
) -> tuple[FloatArray, dict[Correction, NDArray[np.bool_]]]:
    """A copy of ``(B, H, Q)`` paths with widths from ``least`` ``(B,)`` to ``most``."""
    paths, width = ordered.copy(), ordered[..., -1] - ordered[..., 0]
    narrow, wide = width < least[:, None], width > most
    if narrow.any():
        paths[narrow] = _widen(paths[narrow], least[narrow.nonzero()[0]])
    if wide.any():
        paths[wide] = _narrow(paths[wide], levels, most)
    return paths, {
        Correction.WIDENED: _any(narrow[..., None]),
        Correction.NARROWED: _any(wide[..., None]),
    }


def min_widths(series: Iterable[FloatArray], limits: BandsSection) -> FloatArray | None:
    """The least width of each series ``(B,)``, or None where all have the configured one.

    It is ``min_interval_ticks`` of the market's own ticks, where that is less: a width of 0.02 is
    far more than a market moves that trades in tenths of a cent. ``series`` are ``(T,)``
    probabilities, NaN where nothing was observed.
    """
    ticks, width = limits.min_interval_ticks, limits.min_interval_width
    return None if ticks is None else np.array([least_width(y, width, ticks) for y in series])


def least_width(y_prob: FloatArray, width: float, ticks: float | None) -> float:
    """The least width of one series ``(T,)``."""
    return width if ticks is None else min(ticks * observed_tick(y_prob), width)


def observed_tick(y_prob: FloatArray) -> float:
    """The smallest distance between two prices of a series; infinite if it has only one.

    >>> round(observed_tick(np.array([0.41, 0.44, np.nan, 0.42])), 6)
    0.01
    """
    apart = np.diff(np.unique(y_prob[np.isfinite(y_prob)]))
    return float(apart[apart > _SAME_PRICE].min(initial=np.inf))


def _any(where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(where.any(axis=(1, 2)))


def _widen(paths: FloatArray, width: FloatArray) -> FloatArray:
    """Moves the outermost of ``(N, Q)`` levels apart about their middle, but inside [0, 1]."""
    low = (paths[:, 0] + paths[:, -1] - width) / 2
    low = np.clip(low, 0.0, 1.0 - width)
    paths[:, 0] = np.minimum(low, paths[:, 0])
    paths[:, -1] = np.maximum(low + width, paths[:, -1])
    return paths


def _narrow(paths: FloatArray, levels: FloatArray, width: float) -> FloatArray:
    """Shrinks every level towards the one nearest the median: order and bounds are kept."""
    anchor = paths[:, [int(np.argmin(np.abs(levels - 0.5)))]]  # (N, 1)
    scale = width / (paths[:, [-1]] - paths[:, [0]])
    return anchor + (paths - anchor) * scale


def to_logit(y_prob: FloatArray, eps: float) -> FloatArray:
    """Log-odds of probabilities, any shape; NaN stays NaN.

    >>> to_logit(np.array([0.5, 1.0]), eps=1e-6).round(4).tolist()
    [0.0, 13.8155]
    """
    p = np.clip(y_prob, eps, 1.0 - eps)
    return np.log(p / (1.0 - p))


def to_prob(y_logit: FloatArray) -> FloatArray:
    """Probabilities of log-odds, any shape; saturates at 0 and 1 without a warning.

    Written as (1 + tanh(x / 2)) / 2, which equals 1 / (1 + exp(-x)) and overflows at neither end.

    >>> to_prob(np.array([0.0, 800.0, -800.0])).tolist()
    [0.5, 1.0, 0.0]
    """
    return 0.5 * (1.0 + np.tanh(0.5 * y_logit))


def to_model_space(y_prob: FloatArray, transform: Transform) -> FloatArray:
    """The series in the model's space: log-odds, or unchanged."""
    return to_logit(y_prob, transform.eps) if transform.space is Space.LOGIT else y_prob


def from_model_space(y: FloatArray, transform: Transform) -> FloatArray:
    """Probabilities from the model's space; identity values may lie outside [0, 1]."""
    return to_prob(y) if transform.space is Space.LOGIT else y
