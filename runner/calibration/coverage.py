"""What became of forecasts lately: coverage, width and breaches by source and segment, as values.

Two bands are judged. The *answered* one is ``yhat_q`` as it left, after its width limits; an
outcome outside its outermost levels is a *breach*, which is what alerts are about. The *calibrated*
one is what ``yhat_q_conformal`` was, or would have been had the caller asked for it. Coverage and
width are of the interval whose coverage is calibrated (`target_coverage`).

Figures forget: each new outcome lowers the weight of the earlier ones by 1/N, so that they speak
of about the last N (`rolling_points`) and need no list of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from runner.types import FloatArray

COLUMNS = (  # of what is summed up for each outcome
    "weight",
    "covered",  # inside the answered interval
    "width",  # of it
    "breached",  # outside the answered band
    "calibrated",  # 1 where there was a calibrated interval, and then whether it covered, its width
    "calibrated_covered",
    "calibrated_width",
)


class LearningEvent(StrEnum):
    """What happened to forecasts and outcomes on their way; never goes down but by a restart."""

    SCORED = "scored_points"  # a step of a forecast met its outcome
    MISSED = "missed_points"  # its time passed and the market had no value: a gap, or filled
    ISSUED = "issued_forecasts"
    UNMOVED = "unmoved_forecasts"  # the window stood still: nothing to learn about a width
    UNSCORABLE = "unscorable_forecasts"  # levels that do not enclose the calibrated interval
    KNOWN = "known_forecasts"  # an equal one is waiting, or has been scored
    DROPPED_FORECASTS = "dropped_forecasts"  # more are waiting for this market than are kept
    DROPPED_MARKETS = "dropped_markets"  # with their forecasts: more markets than are kept
    DROPPED_SEGMENTS = "dropped_segments"
    UNKNOWN_OUTCOMES = "unknown_outcomes"  # sent by a caller, and no forecast waited for them
    FAILED_SAVES = "failed_saves"


@dataclass(frozen=True, slots=True, eq=False)
class Rolling:
    """Sums over the outcomes of one segment, ``(7,)`` in the order of `COLUMNS`.

    ``points`` counts every outcome there ever was.
    """

    points: int = 0
    sums: FloatArray = field(default_factory=lambda: np.zeros(len(COLUMNS)))

    def after(self, outcomes: FloatArray, memory_points: int) -> "Rolling":
        """The sums with ``outcomes`` ``(N, 7)``, oldest first, each forgetting what came before."""
        kept = 1.0 - 1.0 / memory_points
        ages = np.arange(len(outcomes) - 1, -1, -1)
        sums = self.sums * kept ** len(outcomes) + kept**ages @ outcomes
        return Rolling(self.points + len(outcomes), sums)


@dataclass(frozen=True, slots=True)
class CoverageRow:
    """One segment of one source.

    Attributes:
        source: a model's runtime name, or ``ewma``.
        segment: as in the conformal state; every outcome is in ``all``, and in each narrower one.
        points: outcomes behind it since the record began, steps of a forecast counted one by one.
        coverage: share of outcomes inside the answered interval, 0 to 1.
        mean_width: of that interval, in probability.
        breach_rate: share of outcomes outside the outermost levels that were answered.
        calibrated_coverage: like ``coverage`` for the calibrated interval; None: there was none.
        calibrated_mean_width: likewise.
    """

    source: str
    segment: str
    points: int
    coverage: float
    mean_width: float
    breach_rate: float
    calibrated_coverage: float | None
    calibrated_mean_width: float | None


@dataclass(frozen=True, slots=True)
class CoverageReport:
    """Every segment that has outcomes, and what was counted on the way.

    Attributes:
        target_coverage: what the interval should cover.
        rows: sorted by source and segment.
        counts: by `LearningEvent`; kinds that never happened are absent.
        markets: markets that are followed now.
        waiting_forecasts: forecasts of theirs that still wait for outcomes.
    """

    target_coverage: float
    rows: tuple[CoverageRow, ...] = ()
    counts: Mapping[LearningEvent, int] = field(default_factory=dict)
    markets: int = 0
    waiting_forecasts: int = 0


def coverage_row(source: str, segment: str, rolling: Rolling) -> CoverageRow:
    """The shares behind the sums of a segment that has had outcomes."""
    sums = dict(zip(COLUMNS, rolling.sums.tolist(), strict=True))
    weight, calibrated = sums["weight"], sums["calibrated"]
    return CoverageRow(
        source=source,
        segment=segment,
        points=rolling.points,
        coverage=_share(sums["covered"], weight),
        mean_width=_share(sums["width"], weight),
        breach_rate=_share(sums["breached"], weight),
        calibrated_coverage=_share(sums["calibrated_covered"], calibrated) if calibrated else None,
        calibrated_mean_width=_share(sums["calibrated_width"], calibrated) if calibrated else None,
    )


def _share(part: float, whole: float) -> float:
    """Never past 1 by the rounding of two long sums."""
    return min(part / whole, 1.0)
