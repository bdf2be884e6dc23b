"""The values that learning takes and gives; coverage, width and breaches of recent forecasts.

Replicas send forecast records pickled to the learning actor, so they hold plain values only.

Two bands are scored. The *answered* one is ``yhat_q`` after its width limits; an outcome outside
its outermost levels is a *breach*. The *calibrated* one is ``yhat_q_conformal``, also if the caller
did not ask for it. Coverage and width are of the interval of the `target_coverage`.

A breach at the first step of a forecast *held* if the price is still beyond the edge that it
crossed at step `HELD_STEPS`, the last one that is looked at.

Each new outcome lowers the weight of the earlier ones by 1/N, so that the figures describe about
the last N outcomes (`rolling_points`) without a list of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from runner.calibration.miscoverage import CoverageTest, Miscovers
from runner.calibration.routing import Advice, RoutedBy
from runner.calibration.skill import Paired, Skill, skill_segment
from runner.calibration.state import ConformalState
from runner.calibration.surprise import ScoreHistogram
from runner.types import Bands, FloatArray, Transform

SegmentOf = tuple[str, str]  # source, segment
HELD_STEPS = 12  # an hour of five minutes: the horizon that is asked for by default
ROUNDING = 1e-9  # differences below this come from arithmetic, not from the market
MEMORY_BREACHES = 1000  # a market of five minutes has a few a day


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
    transform: Transform  # of the request, which the baseline would use
    thresholds: tuple[float, ...] = ()
    above: FloatArray | None = None  # (H, K) as answered; None: nothing was
    routed_from: str | None = None  # the model that was not asked because of what is known of it
    is_shadow: bool = False  # asked for in the background, not an answer
    closes_in_s: float | None = None  # from as_of

    @property
    def skill_segment(self) -> str:
        """In which its source is compared with the baseline."""
        return skill_segment(self.observed_prob, self.freq, self.liquidity, self.closes_in_s)


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
    scores: ScoreHistogram = field(default_factory=ScoreHistogram)
    breaches: FloatArray = field(default_factory=lambda: np.zeros(2))  # decayed: all, held ones

    def after(self, outcomes: FloatArray, memory_points: int) -> "Rolling":
        """The sums with ``outcomes`` ``(N, 7)``, oldest first; each decays the earlier ones."""
        sums = _decayed(self.sums, outcomes, memory_points)
        return replace(self, points=self.points + len(outcomes), sums=sums)

    def after_scores(self, step: NDArray[np.int64], scores: FloatArray) -> "Rolling":
        """With more scores; see `ScoreHistogram.after`."""
        return replace(self, scores=self.scores.after(step, scores))

    def after_breaches(self, held: NDArray[np.bool_]) -> "Rolling":
        """With breaches of which it is known now whether they held ``(N,)``."""
        rows = np.column_stack([np.ones(len(held)), held])
        return replace(self, breaches=_decayed(self.breaches, rows, MEMORY_BREACHES))

    def held(self) -> tuple[float, float]:
        """The share of breaches that held, and of how many breaches; 0 without any."""
        breaches, held = self.breaches.tolist()
        return (_share(held, breaches) if breaches else 0.0), breaches


def breach_of(y_prob: float, low: float, up: float) -> int:
    """Where a price is: -1 below a band, 1 above it, 0 inside or unknown.

    >>> breach_of(0.5, 0.4, 0.6), breach_of(0.3, 0.4, 0.6), breach_of(0.7, 0.4, 0.6)
    (0, -1, 1)
    """
    return int(y_prob > up + ROUNDING) - int(y_prob < low - ROUNDING)


def _decayed(sums: FloatArray, rows: FloatArray, memory: int) -> FloatArray:
    kept = 1.0 - 1.0 / memory
    ages = np.arange(len(rows) - 1, -1, -1)
    decayed: FloatArray = sums * kept ** len(rows) + kept**ages @ rows
    return decayed


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """All that was learned: it is saved for a restart, and every replica has a copy."""

    state: ConformalState
    rolling: Mapping[SegmentOf, Rolling]  # the least recently updated first
    skill: Mapping[SegmentOf, Paired] = field(default_factory=dict)  # likewise; models only
    coverage: Mapping[str, CoverageTest] = field(default_factory=dict)  # by source


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
class SkillRow:
    """One model in one segment; ``routed_by``: by what evidence the baseline should answer."""

    source: str
    segment: str
    skill: Skill
    routed_by: RoutedBy | None


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One source over all forecasts that came true and whose windows had moved."""

    source: str
    calibrated_forecasts: int
    calibrated_coverage: float | None  # of recent ones
    miscovers: Miscovers | None  # None: no evidence that the coverage is not the target
    advice: Advice | None  # None for the baseline


@dataclass(frozen=True, slots=True)
class CoverageReport:
    """Figures of every segment with outcomes, sorted by source and segment, and counts."""

    target_coverage: float
    rows: tuple[CoverageRow, ...] = ()
    counts: Mapping[LearningEvent, int] = field(default_factory=dict)
    markets: int = 0
    waiting_forecasts: int = 0
    skill: tuple[SkillRow, ...] = ()
    sources: tuple[SourceRow, ...] = ()


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
