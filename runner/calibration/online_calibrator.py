"""Learns from the stream of requests and outcomes: scores forecasts and updates the calibration.

There is one for the whole application, because a forecast and its outcome can be received by
different replicas. A batch is matched and scored in a few passes over arrays.
"""

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runner.calibration.conformal import Scored, has_moved, interval_of, interval_scores, update
from runner.calibration.coverage import (
    HELD_STEPS,
    ROUNDING,
    Actual,
    CoverageReport,
    ForecastRecord,
    Learned,
    LearningEvent,
    OutcomeCounts,
    Rolling,
    SegmentOf,
    SkillRow,
    SourceRow,
    breach_of,
    coverage_row,
)
from runner.calibration.miscoverage import CoverageTest
from runner.calibration.open_forecasts import (
    MatchedActuals,
    OpenForecast,
    OpenForecasts,
    Window,
    match_actuals,
)
from runner.calibration.paired_scores import Baseline, PairedScores
from runner.calibration.routing import advice, routed_by
from runner.calibration.state import segment_chain, tails
from runner.calibration.surprise import signed_scores
from runner.config.conformal import ConformalSection
from runner.types import BASELINE_MODEL, FloatArray


class OnlineCalibrator:
    """Keeps forecasts until their outcomes are known; no call waits."""

    def __init__(
        self, settings: ConformalSection, learned: Learned, baseline: Baseline | None = None
    ) -> None:
        """Without a ``baseline`` no model is compared with it."""
        self._settings = settings
        self._pairs = baseline and PairedScores(baseline, self._calibrated, learned, settings)
        self._skill, self._tests = learned.skill, learned.coverage
        self._state = learned.state
        self._rolling: OrderedDict[SegmentOf, Rolling] = OrderedDict(learned.rolling)
        self._open = OpenForecasts(settings)
        self._counts: Counter[LearningEvent] = Counter()

    @property
    def learned(self) -> Learned:
        """The current state."""
        return Learned(self._state, dict(self._rolling), self._skill, self._tests)

    @property
    def changes(self) -> int:
        """Number of steps and of forecasts scored here; ``learned`` changes only with it."""
        return self._counts[LearningEvent.SCORED] + (self._pairs.scored if self._pairs else 0)

    def report(self) -> CoverageReport:
        """Coverage of recent forecasts."""
        rows = (coverage_row(*where, self._rolling[where]) for where in sorted(self._rolling))
        return CoverageReport(
            self._settings.target_coverage,
            tuple(rows),
            dict(self._counts + self._open.counts),
            self._open.markets,
            self._open.waiting,
            tuple(
                SkillRow(*where, one.skill(), routed_by(self._skill, self._tests, *where))
                for where, one in sorted(self._skill.items(), key=lambda row: row[0])
            ),
            tuple(map(self._source_row, sorted({*self._tests, *(s for s, _ in self._skill)}))),
        )

    def _source_row(self, source: str) -> SourceRow:
        test = self._tests.get(source, CoverageTest())
        return SourceRow(
            source=source,
            calibrated_forecasts=test.forecasts,
            calibrated_coverage=test.recent if test.forecasts else None,
            miscovers=test.miscovers,
            advice=None if source == BASELINE_MODEL else advice(self._skill, source),
        )

    def learn(self, batch: Sequence[ForecastRecord]) -> None:
        """Scores open forecasts by the values in requests, and adds the requests' forecasts."""
        if self._pairs:
            self._pairs.learn(batch)
            self._skill, self._tests = self._pairs.known, self._pairs.tests
        pairs: list[tuple[OpenForecast, Window]] = []
        for record in batch:
            window = Window(record.as_of, record.observed_prob)
            waiting = self._open.awaiting(record.market_id, window, record.step_s)
            pairs += [(forecast, window) for forecast in waiting]
            self._add(record)
        self._score(match_actuals(pairs))
        for record in batch:
            self._open.close(record.market_id, record.step_s, record.as_of)

    def outcomes(self, sent: Sequence[Actual]) -> OutcomeCounts:
        """Scores open forecasts by values sent to the outcomes endpoint."""
        pairs: list[tuple[OpenForecast, Window]] = []
        found: list[int] = []  # for each pair, the number of the outcome
        for number, outcome in enumerate(sent):
            window = Window(outcome.ts, np.array([outcome.y_prob]))
            waiting = self._open.awaiting(outcome.market_id, window, None)
            pairs += [(forecast, window) for forecast in waiting]
            found += [number] * len(waiting)
        matched = match_actuals(pairs)
        self._score(matched)
        for outcome in sent:
            self._open.close(outcome.market_id)
        scored = len({found[pair] for pair in matched.pair.tolist()})
        unknown = len(sent) - scored
        self._counts[LearningEvent.UNKNOWN_OUTCOMES] += unknown
        return OutcomeCounts(len(sent), scored, unknown, len(matched.pair))

    def count(self, event: LearningEvent) -> None:
        """Adds one to a count."""
        self._counts[event] += 1

    def _add(self, record: ForecastRecord) -> None:
        """Adds the forecast of a record, if its outcomes will say something about its width."""
        if self._open.is_known(record.market_id, (record.as_of, record.step_s, record.source)):
            self._counts[LearningEvent.KNOWN] += 1
        elif not has_moved(record.observed_prob, self._settings.min_changes):
            self._counts[LearningEvent.UNMOVED] += 1
        elif (forecast := self._open_forecast(record)) is None:
            self._counts[LearningEvent.UNSCORABLE] += 1
        else:
            self._open.add(record.market_id, forecast)

    def _calibrated(self, record: ForecastRecord) -> FloatArray | None:
        """The calibrated interval of a record whose window has moved, as ends ``(H, 2)``."""
        forecast = self._open_forecast(record)
        moved = has_moved(record.observed_prob, self._settings.min_changes)
        if forecast is None or not moved or np.isnan(forecast.factors).any():
            return None
        return _calibrated_ends(forecast.interval, forecast.factors)

    def _open_forecast(self, record: ForecastRecord) -> OpenForecast | None:
        settings, bands, levels = self._settings, record.bands, np.asarray(record.levels)
        interval = interval_of(bands.unlimited, levels, settings.target_coverage)
        if interval is None:
            return None
        segments = segment_chain(settings, record.liquidity, record.freq, interval)
        found = self._state.find(record.source, segments, len(interval), settings)
        steps = min(len(interval), settings.max_steps)
        low, up = (int(np.abs(levels - tail).argmin()) for tail in tails(settings.target_coverage))
        return OpenForecast(
            as_of=record.as_of,
            step_s=record.step_s,
            source=record.source,
            segments=segments,
            interval=interval[:steps],
            answered=bands.y_prob[:steps, [low, up, 0, -1]],
            factors=np.full((steps, 2), np.nan) if found is None else found[1].factors[:steps],
            open=np.ones(steps, dtype=np.bool_),
        )

    def _score(self, matched: MatchedActuals) -> None:
        groups: defaultdict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(list)
        for number, forecast in enumerate(matched.forecasts):
            groups[forecast.source, forecast.segments].append(number)
        for (source, segments), numbers in groups.items():
            scores, outcomes = _scores_and_outcomes(matched, numbers)
            step, held = matched.step[numbers], _held(matched, numbers)
            signed = _signed_scores(matched, numbers)
            scored = Scored(source, segments, by_step(scores, step))
            self._state = update(self._state, [scored], self._settings.online_rate)
            for segment in segments:
                before = self._rolling.get((source, segment), Rolling())
                after = before.after(outcomes, self._settings.rolling_points)
                after = after.after_scores(step, signed).after_breaches(held)
                self._record((source, segment), after)
        self._counts[LearningEvent.SCORED] += len(matched.forecasts)

    def _record(self, where: SegmentOf, rolling: Rolling) -> None:
        self._rolling[where] = rolling
        self._rolling.move_to_end(where)
        if len(self._rolling) > self._settings.max_segments:
            oldest, _ = self._rolling.popitem(last=False)
            self._state = self._state.without(*oldest)
            self._counts[LearningEvent.DROPPED_SEGMENTS] += 1


def by_step(scores: FloatArray, step: NDArray[np.int64]) -> FloatArray:
    """Scores ``(N, 2)`` of single steps in few rows ``(R, H, 2)``; each step keeps their order.

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


def _scores_and_outcomes(
    matched: MatchedActuals, numbers: Sequence[int]
) -> tuple[FloatArray, FloatArray]:
    """Scores ``(N, 2)`` and the values of `COLUMNS` ``(N, 7)`` of some matched steps."""
    y_prob = matched.y_prob[numbers]
    at = [(matched.forecasts[i], matched.step[i]) for i in numbers]
    interval = np.array([forecast.interval[h] for forecast, h in at])  # (N, 3)
    answered = np.array([forecast.answered[h] for forecast, h in at])  # (N, 4)
    factors = np.array([forecast.factors[h] for forecast, h in at])  # (N, 2)
    scores = interval_scores(interval, y_prob)
    known = ~np.isnan(factors[:, 0])
    low, up = _calibrated_ends(interval, factors).T
    columns = [
        np.ones(len(at)),
        _inside(y_prob, answered[:, 0], answered[:, 1]),
        answered[:, 1] - answered[:, 0],
        ~_inside(y_prob, answered[:, 2], answered[:, 3]),
        known,
        (scores <= factors + ROUNDING).all(axis=1),  # False without factors
        np.where(known, up - low, 0.0),
    ]
    return scores, np.column_stack(columns).astype(np.float64)


def _signed_scores(matched: MatchedActuals, numbers: Sequence[int]) -> FloatArray:
    interval = np.array([matched.forecasts[i].interval[matched.step[i]] for i in numbers])
    return signed_scores(interval, matched.y_prob[numbers])


def _held(matched: MatchedActuals, numbers: Sequence[int]) -> NDArray[np.bool_]:
    """Whether it held ``(K,)``, of each breach of a first step whose last step is matched here.

    Notes the breaches of first steps in their forecasts.
    """
    held: list[bool] = []
    for i in numbers:
        forecast, step, y_prob = matched.forecasts[i], matched.step[i], float(matched.y_prob[i])
        if step == 0:
            forecast.breach = breach_of(y_prob, *forecast.answered[0, 2:].tolist())
        elif step == HELD_STEPS - 1 and forecast.breach:
            held.append(breach_of(y_prob, *forecast.answered[0, 2:].tolist()) == forecast.breach)
    return np.array(held, dtype=np.bool_)


def _calibrated_ends(interval: FloatArray, factors: FloatArray) -> FloatArray:
    """The ends ``(N, 2)`` of intervals ``(N, 3)`` that are stretched by factors ``(N, 2)``."""
    low, centre, up = interval.T
    lower = np.maximum(centre - factors[:, 0] * (centre - low), 0.0)
    upper = np.minimum(centre + factors[:, 1] * (up - centre), 1.0)
    return np.column_stack([lower, upper])


def _inside(y_prob: FloatArray, low: FloatArray, up: FloatArray) -> NDArray[np.bool_]:
    return np.asarray((y_prob >= low - ROUNDING) & (y_prob <= up + ROUNDING))
