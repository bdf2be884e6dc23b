"""Has the coverage of a source left its target? A test that may be looked at after every forecast.

The unit is one forecast that came true: X is the share of its outcomes inside the calibrated
interval. While the mean of X is in [low, high] = target -+ `TOLERANCE`, the two processes

    too few    M <- max(M, 1) (1 + b (low - X) / (1 - low))
    too many   M <- max(M, 1) (1 + b (X - high) / high)                each for several b in (0, 1)

reach `LIMIT` at most once in `LIMIT` forecasts on average, however the outcomes of one forecast
depend on each other: each factor has a mean of at most 1 (e-CUSUM; Shin, Ramdas, Rinaldo,
"E-detectors: a nonparametric framework for sequential change detection", New England Journal of
Statistics in Data Science 2(2), 2024). The floor of 1 makes a late change as quickly found as an
early one. Each b suits changes of another size; their mean is used.

A source that was found is in order again when the mean of its recent forecasts is in [low, high].
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from runner.types import FloatArray

TOLERANCE = 0.05  # calibration on ticks cannot be exact, and less would change no decision
LIMIT = 1e5  # forecasts between two false alarms, on average, at the edge of the tolerance
BETS = np.array([0.05, 0.2, 0.6])
RECENT = 50  # forecasts


class Miscovers(StrEnum):
    """On which side of its target the coverage of a source is, with evidence."""

    UNDER = "under"  # too few outcomes are inside: the bands are too narrow
    OVER = "over"


@dataclass(frozen=True, slots=True, eq=False)
class CoverageTest:
    """The evidence of one source."""

    forecasts: int = 0
    recent: float = 0.0  # mean of X over the recent forecasts
    evidence: FloatArray = field(default_factory=lambda: np.ones((2, len(BETS))))  # too few, many
    miscovers: Miscovers | None = None

    def after(self, share: float, target: float) -> "CoverageTest":
        """With a forecast of which this share of outcomes was inside."""
        low, high = target - TOLERANCE, min(target + TOLERANCE, 1.0)
        forecasts = self.forecasts + 1
        recent = self.recent + (share - self.recent) / min(forecasts, RECENT)
        away = np.array([[(low - share) / (1 - low)], [(share - high) / high]])
        evidence = np.maximum(self.evidence, 1.0) * (1 + BETS * away)
        now = replace(self, forecasts=forecasts, recent=recent, evidence=evidence)
        if self.miscovers is None:
            return replace(now, miscovers=_found(evidence))
        if low <= recent <= high:
            return replace(now, evidence=np.ones_like(evidence), miscovers=None)
        return replace(now, evidence=np.minimum(evidence, LIMIT))


def _found(evidence: FloatArray) -> Miscovers | None:
    few, many = evidence.mean(axis=1) >= LIMIT
    return Miscovers.UNDER if few else Miscovers.OVER if many else None
