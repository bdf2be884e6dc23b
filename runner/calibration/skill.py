"""Is a model better than the baseline? What is known of it from forecasts that came true.

The unit is one forecast: the mean pinball loss of the model's band over its levels and steps, and
that of the baseline's band for the same window. With d the difference of the two, in n forecasts
of a segment,

    skill = 1 - mean loss / mean loss of the baseline,      its interval that of the mean of d,

    mean of d -+ s sqrt(2 (n r^2 + 1) / (n r)^2 log(sqrt(n r^2 + 1) / alpha)),   s^2 its variance

This interval holds at all n at once, with chance 1 - alpha as n grows, so it may be looked at after
every forecast (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and
asymptotic confidence sequences", Annals of Statistics 52(6), 2024, equation 10); r makes it tight
around `TIGHT_AT` forecasts. Older forecasts count less: n is at most `MEMORY_FORECASTS`.

A segment is routed to the baseline when the whole interval is above 0, and back to the model when
the mean is below 0 again: two limits, so that it does not change to and fro.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import isnan, log, sqrt

import numpy as np

from runner.calibration.state import EVERYTHING as EVERYTHING
from runner.types import FloatArray

MEMORY_FORECASTS = 2000
LEAST_FORECASTS = 20  # for a verdict: the interval is one of large numbers
TIGHT_AT = 50
ALPHA = 0.01
SUMS = (
    *("weight", "loss", "baseline_loss", "squared_difference", "covered", "baseline_covered"),
    *("interval_score", "baseline_interval_score"),
    *("with_thresholds", "brier", "baseline_brier"),
)
_ACTIVITY = ((0.04, "few"), (0.3, "some"), (np.inf, "many"))  # share of steps that moved: 12 of 288
_PRICE = ((0.05, "edge"), (0.2, "side"), (np.inf, "middle"))  # distance from 0 or 1
_CLOSES = ((3600, "hour"), (86_400, "day"), (np.inf, "later"))  # within so many seconds
_R_SQUARED = (-2 * log(ALPHA) + log(-2 * log(ALPHA) + 1)) / TIGHT_AT


class Verdict(StrEnum):
    """What is known of a model in a segment."""

    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """Decayed sums over the forecasts of one segment, ``(11,)`` in the order of `SUMS`."""

    forecasts: int = 0  # number of all
    sums: FloatArray = field(default_factory=lambda: np.zeros(len(SUMS)))
    routed: bool = False  # to the baseline

    def after(self, scored: FloatArray) -> "Paired":
        """With scored forecasts ``(N, 8)``, oldest first.

        Pairs of the model and the baseline: losses, shares of covered steps, interval scores, Brier
        scores (NaN without thresholds).
        """
        sums, kept = self.sums, 1.0 - 1.0 / MEMORY_FORECASTS
        for loss, baseline_loss, *rest in scored.tolist():
            others, brier = rest[:4], rest[4:]
            last = [0.0] * 3 if isnan(brier[0]) else [1.0, *brier]
            d = loss - baseline_loss
            sums = sums * kept + np.array([1, loss, baseline_loss, d * d, *others, *last])
        both = replace(self, forecasts=self.forecasts + len(scored), sums=sums)
        skill = both.skill()
        is_known = skill.verdict is not Verdict.UNDECIDED
        ends = skill.value is not None and skill.value > 0
        return replace(both, routed=not ends if self.routed else is_known and not ends)

    def skill(self) -> "Skill":
        """The figures of these forecasts."""
        sums = dict(zip(SUMS, self.sums.tolist(), strict=True))
        n, loss, baseline_loss = sums["weight"], sums["loss"], sums["baseline_loss"]
        if n == 0 or baseline_loss <= 0:
            return Skill(self.forecasts)
        d = (loss - baseline_loss) / n
        variance = max(0.0, sums["squared_difference"] / n - d * d)
        half = _half_width(n) * sqrt(variance) if n > 1 else float("inf")
        of_thresholds = sums["with_thresholds"]
        unit = baseline_loss / n
        is_enough = n >= LEAST_FORECASTS
        return Skill(
            forecasts=self.forecasts,
            value=-d / unit,
            low=-(d + half) / unit if is_enough else None,
            high=min(1.0, -(d - half) / unit) if is_enough else None,
            coverage=min(1.0, sums["covered"] / n),
            baseline_coverage=min(1.0, sums["baseline_covered"] / n),
            interval_score=sums["interval_score"] / n,
            baseline_interval_score=sums["baseline_interval_score"] / n,
            brier=sums["brier"] / of_thresholds if of_thresholds else None,
            baseline_brier=sums["baseline_brier"] / of_thresholds if of_thresholds else None,
        )


@dataclass(frozen=True, slots=True)
class Skill:
    """The skill of a model in one segment; None: not known yet."""

    forecasts: int
    value: float | None = None  # 1 - loss / loss of the baseline: under 0 is worse
    low: float | None = None  # the interval of `value`
    high: float | None = None
    coverage: float | None = None  # share of outcomes between the outermost answered levels
    baseline_coverage: float | None = None
    interval_score: float | None = None  # of the outermost levels
    baseline_interval_score: float | None = None
    brier: float | None = None  # of forecasts with thresholds: mean over these and the steps
    baseline_brier: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Better or worse where the interval does not hold 0."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return Verdict.UNDECIDED
        return Verdict.BETTER if self.low > 0 else Verdict.WORSE


def skill_segment(
    observed_prob: FloatArray, freq: str, liquidity: str | None, closes_in_s: float | None = None
) -> str:
    """The segment of a window ``(T,)`` with NaN for no value, of a market that closes then.

    >>> skill_segment(np.array([0.5, 0.5, np.nan, 0.6]), "5m", "high")
    'activity=many|price=middle|freq=5m|liquidity=high'
    """
    known = observed_prob[np.isfinite(observed_prob)]
    moved = np.count_nonzero(np.diff(known)) / max(1, observed_prob.size - 1)
    away = min(known[-1], 1 - known[-1]) if known.size else 0.5
    parts = [
        f"activity={next(name for limit, name in _ACTIVITY if moved < limit)}",
        f"price={next(name for limit, name in _PRICE if away < limit)}",
        f"freq={freq}",
    ]
    if closes_in_s is not None:
        parts.append(f"closes={next(name for limit, name in _CLOSES if closes_in_s < limit)}")
    return "|".join(parts if liquidity is None else [*parts, f"liquidity={liquidity}"])


def _half_width(n: float) -> float:
    """Half the interval of a mean, in standard deviations."""
    grown = n * _R_SQUARED + 1
    return sqrt(2 * grown / (n * n * _R_SQUARED) * log(sqrt(grown) / ALPHA))
