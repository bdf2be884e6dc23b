"""The values that learning takes and gives; coverage, width and breaches of recent forecasts.

Replicas send forecast records pickled to the learning actor, so they hold plain values only.

Two bands are scored. The *answered* one is ``yhat_q`` after its width limits; an outcome outside
its outermost levels is a *breach*. The *calibrated* one is ``yhat_q_conformal``, also if the caller
did not ask for it. Coverage and width are of the interval of the `target_coverage`.

Each new outcome lowers the weight of the earlier ones by 1/N, so that the figures describe about
the last N outcomes (`rolling_points`) without a list of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from runner.types import Bands, FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class ForecastRecord:
    """One answered request."""

    market_id: str
    freq: str
    step_s: int
    as_of: float  # time of the last value, POSIX seconds
    observed_prob: FloatArray  # (T,) on the grid that ends at as_of, NaN: nothing was observed
    levels: tuple[float, ...]
    liquidity: str | None
    source: str  # of the bands: a model's runtime name, or ``ewma``
    bands: Bands


@dataclass(frozen=True, slots=True)
class Actual:
    """A value of a market, sent to the outcomes endpoint; ``ts`` in POSIX seconds."""

    market_id: str
    ts: float
    y_prob: float


@dataclass(frozen=True, slots=True)
class OutcomeCounts:
    """Counts for the outcomes of one call.

    ``unknown`` ones have no forecast for that market and time, or it is already scored. ``points``
    are scored steps of forecasts: an outcome can score steps of several forecasts.
    """

    accepted: int
    scored: int
    unknown: int
    points: int


COLUMNS = (  # summed over the outcomes
    "weight",
    "covered",  # inside the answered interval
    "width",  # of it
    "breached",  # outside the answered band
    "calibrated",  # 1 if there was a calibrated interval; then whether it covered, and its width
    "calibrated_covered",
    "calibrated_width",
)


class LearningEvent(StrEnum):
    """What is counted; the counts fall only at a restart."""

    SCORED = "scored_points"  # steps of forecasts with an outcome
    MISSED = "missed_points"  # the time has passed and no value was observed
    ISSUED = "issued_forecasts"
    UNMOVED = "unmoved_forecasts"  # a constant price says nothing about a width
    UNSCORABLE = "unscorable_forecasts"  # without the levels of the calibrated interval
    KNOWN = "known_forecasts"  # an equal one is open, or has been scored
    DROPPED_FORECASTS = "dropped_forecasts"  # over the limit of open forecasts of a market
    DROPPED_MARKETS = "dropped_markets"  # with their forecasts, over the limit of markets
    DROPPED_SEGMENTS = "dropped_segments"
    UNKNOWN_OUTCOMES = "unknown_outcomes"  # sent by a caller, without an open forecast
    FAILED_SAVES = "failed_saves"


@dataclass(frozen=True, slots=True, eq=False)
class Rolling:
    """Sums over the outcomes of one segment, ``(7,)`` in the order of `COLUMNS`."""

    points: int = 0  # number of all outcomes
    sums: FloatArray = field(default_factory=lambda: np.zeros(len(COLUMNS)))

    def after(self, outcomes: FloatArray, memory_points: int) -> "Rolling":
        """The sums with ``outcomes`` ``(N, 7)``, oldest first; each decays the earlier ones."""
        kept = 1.0 - 1.0 / memory_points
        ages = np.arange(len(outcomes) - 1, -1, -1)
        sums = self.sums * kept ** len(outcomes) + kept**ages @ outcomes
        return Rolling(self.points + len(outcomes), sums)


@dataclass(frozen=True, slots=True)
class CoverageRow:
    """One segment of one source; shares are 0 to 1, widths are in probability."""

    source: str
    segment: str
    points: int  # outcomes since the start; each step of a forecast is one
    coverage: float  # share of outcomes inside the answered interval
    mean_width: float
    breach_rate: float  # share of outcomes outside the outermost answered levels
    calibrated_coverage: float | None  # None if there was no calibrated interval
    calibrated_mean_width: float | None


@dataclass(frozen=True, slots=True)
class CoverageReport:
    """Figures of every segment with outcomes, sorted by source and segment, and counts."""

    target_coverage: float
    rows: tuple[CoverageRow, ...] = ()
    counts: Mapping[LearningEvent, int] = field(default_factory=dict)
    markets: int = 0
    waiting_forecasts: int = 0


def coverage_row(source: str, segment: str, rolling: Rolling) -> CoverageRow:
    """The figures of a segment with at least one outcome."""
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
    """The ratio; rounding must not make it larger than 1."""
    return min(part / whole, 1.0)
