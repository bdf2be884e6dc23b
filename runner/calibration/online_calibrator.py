"""Learning from the stream: requests and outcomes in, calibration and its record out.

One for a whole application, so that a forecast meets its outcome whichever replica saw either. All
of a batch is matched and scored in a few passes over arrays.
"""

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.calibration.conformal import Scored, has_moved, interval_of, interval_scores, update
from runner.calibration.coverage import CoverageReport, LearningEvent, Rolling, coverage_row
from runner.calibration.forecast_record import Actual, ForecastRecord, OutcomeCounts
from runner.calibration.open_forecasts import (
    MatchedActuals,
    OpenForecast,
    OpenForecasts,
    Window,
    match_actuals,
)
from runner.calibration.segments import segment_chain
from runner.calibration.state import ConformalState, tails
from runner.config.conformal import ConformalSection
from runner.types import FloatArray

SegmentOf = tuple[str, str]  # source, segment
_ROUNDING = 1e-9  # differences below this come from arithmetic, not from the market


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """All that outlives a restart."""

    state: ConformalState
    rolling: Mapping[SegmentOf, Rolling]  # the one that was taught longest ago first


class OnlineCalibrator:
    """Follows forecasts until they come true; every call takes what is there and returns."""

    def __init__(self, settings: ConformalSection, learned: Learned) -> None:
        self._settings = settings
        self._state = learned.state
        self._rolling: OrderedDict[SegmentOf, Rolling] = OrderedDict(learned.rolling)
        self._pending = OpenForecasts(settings)
        self._counts: Counter[LearningEvent] = Counter()

    @property
    def learned(self) -> Learned:
        """What is known now."""
        return Learned(self._state, dict(self._rolling))

    @property
    def scored_points(self) -> int:
        """How many steps have been scored here; what is known changes with it."""
        return self._counts[LearningEvent.SCORED]

    def report(self) -> CoverageReport:
        """What became of forecasts lately."""
        rows = (coverage_row(*where, self._rolling[where]) for where in sorted(self._rolling))
        return CoverageReport(
            self._settings.target_coverage,
            tuple(rows),
            dict(self._counts + self._pending.counts),
            self._pending.markets,
            self._pending.waiting,
        )

    def learn(self, batch: Sequence[ForecastRecord]) -> None:
        """Scores what the requests' values decide, then follows their forecasts."""
        pairs: list[tuple[OpenForecast, Window]] = []
        for seen in batch:
            window = Window(seen.as_of, seen.observed_prob)
            waiting = self._pending.awaiting(seen.market_id, window, seen.step_s)
            pairs += [(pending, window) for pending in waiting]
            self._follow(seen)
        self._score(match_actuals(pairs))
        for seen in batch:
            self._pending.close(seen.market_id, seen.step_s, seen.as_of)

    def outcomes(self, sent: Sequence[Actual]) -> OutcomeCounts:
        """Scores what values that callers sent by themselves decide."""
        pairs: list[tuple[OpenForecast, Window]] = []
        found: list[int] = []  # whose value each pair holds
        for number, outcome in enumerate(sent):
            window = Window(outcome.ts, np.array([outcome.y_prob]))
            waiting = self._pending.awaiting(outcome.market_id, window, None)
            pairs += [(pending, window) for pending in waiting]
            found += [number] * len(waiting)
        hits = match_actuals(pairs)
        self._score(hits)
        for outcome in sent:
            self._pending.close(outcome.market_id)
        scored = len({found[pair] for pair in hits.pair.tolist()})
        unknown = len(sent) - scored
        self._counts[LearningEvent.UNKNOWN_OUTCOMES] += unknown
        return OutcomeCounts(len(sent), scored, unknown, len(hits.pair))

    def count(self, what: LearningEvent) -> None:
        """Something that happened around here."""
        self._counts[what] += 1

    def _follow(self, seen: ForecastRecord) -> None:
        """Waits for the outcomes of a forecast that is worth it."""
        if self._pending.knows(seen.market_id, (seen.as_of, seen.step_s, seen.source)):
            self._counts[LearningEvent.KNOWN] += 1
        elif not has_moved(seen.observed_prob, self._settings.min_changes):
            self._counts[LearningEvent.UNMOVED] += 1
        elif (pending := self._pending_of(seen)) is None:
            self._counts[LearningEvent.UNSCORABLE] += 1
        else:
            self._pending.issue(seen.market_id, pending)

    def _pending_of(self, seen: ForecastRecord) -> OpenForecast | None:
        settings, bands, levels = self._settings, seen.bands, np.asarray(seen.levels)
        meant = interval_of(bands.unlimited, levels, settings.target_coverage)
        if meant is None:
            return None
        segments = segment_chain(
            settings.segments,
            settings.width_edges,
            liquidity=seen.liquidity,
            freq=seen.freq,
            width=float(meant[-1, 2] - meant[-1, 0]),
        )
        found = self._state.find(seen.source, segments, len(meant), settings.enough)
        steps = min(len(meant), settings.max_steps)
        low, up = (int(np.abs(levels - tail).argmin()) for tail in tails(settings.target_coverage))
        return OpenForecast(
            as_of=seen.as_of,
            step_s=seen.step_s,
            source=seen.source,
            segments=segments,
            interval=meant[:steps],
            answered=bands.y_prob[:steps, [low, up, 0, -1]],
            factors=None if found is None else found[1].factors[:steps],
            open=np.ones(steps, dtype=np.bool_),
        )

    def _score(self, hits: MatchedActuals) -> None:
        groups: defaultdict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(list)
        for place, i in enumerate(hits.index.tolist()):
            groups[hits.forecasts[i].source, hits.forecasts[i].segments].append(place)
        for (source, segments), places in groups.items():
            scores, judged = _judge(hits, places)
            step = hits.step[places]
            taught = Scored(source, segments, by_step(scores, step))
            self._state = update(self._state, [taught], self._settings.online_rate)
            for segment in segments:
                self._record((source, segment), judged)
        self._counts[LearningEvent.SCORED] += len(hits.index)

    def _record(self, where: SegmentOf, judged: FloatArray) -> None:
        before = self._rolling.get(where, Rolling())
        self._rolling[where] = before.after(judged, self._settings.rolling_points)
        self._rolling.move_to_end(where)
        if len(self._rolling) > self._settings.max_segments:
            oldest, _ = self._rolling.popitem(last=False)
            self._state = self._state.without(*oldest)
            self._counts[LearningEvent.DROPPED_SEGMENTS] += 1


def by_step(scores: FloatArray, step: NDArray[np.int64]) -> FloatArray:
    """Scores ``(N, 2)`` of single steps as few rows ``(R, H, 2)``, each step's in their order.

    >>> by_step(np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]), np.array([0, 1, 0]))[..., 0]
    array([[ 1.,  2.],
           [ 3., nan]])
    """
    order = np.argsort(step, kind="stable")
    sizes = np.bincount(step)
    starts = np.cumsum(sizes) - sizes  # (H,) where each step's scores begin
    row = np.arange(len(step)) - starts[step[order]]
    rows = np.full((int(sizes.max()), len(sizes), 2), np.nan)
    rows[row, step[order]] = scores[order]
    return rows


def _judge(hits: MatchedActuals, places: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """Scores ``(N, 2)`` and what is summed up ``(N, 7)``, of some hits."""
    step, y_prob = hits.step[places], hits.y_prob[places]
    forecasts = [hits.forecasts[i] for i in hits.index[places].tolist()]
    at = list(zip(forecasts, step.tolist(), strict=True))
    interval = np.array([pending.interval[h] for pending, h in at])  # (N, 3)
    answered = np.array([pending.answered[h] for pending, h in at])  # (N, 4)
    factors = np.array([_NO_FACTORS if p.factors is None else p.factors[h] for p, h in at])
    scores = interval_scores(interval, y_prob)
    known = ~np.isnan(factors[:, 0])
    width = _calibrated_width(interval, factors)
    columns = [
        np.ones(len(at)),
        _inside(y_prob, answered[:, 0], answered[:, 1]),
        answered[:, 1] - answered[:, 0],
        ~_inside(y_prob, answered[:, 2], answered[:, 3]),
        known,
        (scores <= factors + _ROUNDING).all(axis=1),  # False where there are no factors
        np.where(known, width, 0.0),
    ]
    return scores, np.column_stack(columns).astype(np.float64)


_NO_FACTORS = np.full(2, np.nan)


def _calibrated_width(interval: FloatArray, factors: FloatArray) -> FloatArray:
    low, centre, up = interval.T
    lower = np.maximum(centre - factors[:, 0] * (centre - low), 0.0)
    upper = np.minimum(centre + factors[:, 1] * (up - centre), 1.0)
    width: FloatArray = upper - lower
    return width


def _inside(y_prob: FloatArray, low: FloatArray, up: FloatArray) -> NDArray[np.bool_]:
    return np.asarray((y_prob >= low - _ROUNDING) & (y_prob <= up + _ROUNDING))
