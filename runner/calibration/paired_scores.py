"""Scores forecasts of models beside the baseline's for the same windows, from the requests alone.

Of each market and source one forecast at a time waits for its outcomes: the next one begins when
all steps of this one are in the window of a later request. So no outcome counts twice, and a market
with a request every five minutes and 12 steps gives one pair an hour. Requests whose window does
not reach back far enough give none.

The same forecasts, and those of the baseline, feed the coverage test of their source.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.calibration.coverage import ROUNDING, ForecastRecord, Learned, SegmentOf
from runner.calibration.crossing import probability_above
from runner.calibration.miscoverage import CoverageTest
from runner.calibration.open_forecasts import TOLERANCE_STEPS
from runner.calibration.skill import EVERYTHING, Paired
from runner.config.conformal import ConformalSection
from runner.types import BASELINE_MODEL, FloatArray

# The baseline's bands ``(H, Q)`` for the window and levels of each record.
Baseline = Callable[[Sequence[ForecastRecord]], Sequence[FloatArray]]
# The ends ``(H, 2)`` of the calibrated interval of a record; None where there is none.
Calibrated = Callable[[ForecastRecord], FloatArray | None]
LEAST_OUTCOMES = 2 / 3  # of the steps of a forecast, for a score: else a gap decides


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A forecast and the baseline's for the same window: ``(H, Q)`` each; None: it is its own."""

    as_of: float
    step_s: int
    source: str
    segment: str
    levels: FloatArray
    bands: FloatArray
    baseline: FloatArray | None
    calibrated: FloatArray | None  # (H, 2)
    thresholds: tuple[float, ...]
    above: FloatArray | None  # (H, K) as answered; None: of these bands


class PairedScores:
    """The pairs that wait, and what is known of each source and segment."""

    def __init__(
        self,
        baseline: Baseline,
        calibrated: Calibrated,
        learned: Learned,
        settings: ConformalSection,
    ) -> None:
        self._baseline, self._calibrated = baseline, calibrated
        self._settings = settings
        self._markets: OrderedDict[str, dict[str, _Waiting]] = OrderedDict()  # by source
        self._known: OrderedDict[SegmentOf, Paired] = OrderedDict(learned.skill)
        self._tests = dict(learned.coverage)
        self.scored = 0  # forecasts

    @property
    def known(self) -> dict[SegmentOf, Paired]:
        """The sums of each model and segment."""
        return dict(self._known)

    @property
    def tests(self) -> dict[str, CoverageTest]:
        """The coverage test of each source."""
        return dict(self._tests)

    def learn(self, batch: Sequence[ForecastRecord]) -> None:
        """Scores the forecasts whose outcomes these records hold, and adds the records' own."""
        new: dict[str, ForecastRecord] = {}  # by market
        for record in batch:
            if record.market_id in new:  # a later record of a market can score this one
                self._add([*new.values()])
                new.clear()
            waiting = self._markets.get(record.market_id, {})
            for one in _completed(waiting, record):
                del waiting[one.source]
                self._score(one, record)
            if record.source not in waiting:
                new[record.market_id] = record
        self._add([*new.values()])

    def _score(self, one: _Waiting, record: ForecastRecord) -> None:
        found = _outcomes(one, record)
        if found is None:
            return
        known, y = found
        self.scored += 1
        if one.calibrated is not None:
            share = float(_inside(one.calibrated[known], y).mean())
            before = self._tests.get(one.source, CoverageTest())
            self._tests[one.source] = before.after(share, self._settings.target_coverage)
        if one.baseline is not None:
            both = one.bands[known], one.baseline[known]
            losses = [pinball(bands, one.levels, y) for bands in both]
            row = [
                *(float(loss.mean()) for loss in losses),
                *(float(_inside(bands, y).mean()) for bands in both),
                *(float(interval_scores(loss, one.levels).mean()) for loss in losses),
                *_brier_scores(one, one.baseline, known, y),
            ]
            self._compare((one.source, one.segment), row)
            self._compare((one.source, EVERYTHING), row)

    def _compare(self, where: SegmentOf, row: list[float]) -> None:
        self._known[where] = self._known.get(where, Paired()).after(np.array([row]))
        self._known.move_to_end(where)
        if len(self._known) > self._settings.max_segments:
            self._known.popitem(last=False)

    def _add(self, records: Sequence[ForecastRecord]) -> None:
        of_models = [record for record in records if record.source != BASELINE_MODEL]
        baselines = iter(self._baseline(of_models))
        for record in records:
            baseline = None if record.source == BASELINE_MODEL else next(baselines)
            calibrated = self._calibrated(record)
            if baseline is None and calibrated is None:
                continue
            steps = min(len(record.bands.y_prob), self._settings.max_steps)
            waiting = self._markets.setdefault(record.market_id, {})
            self._markets.move_to_end(record.market_id)
            waiting[record.source] = _Waiting(
                as_of=record.as_of,
                step_s=record.step_s,
                source=record.source,
                segment=record.skill_segment,
                levels=np.asarray(record.levels),
                bands=record.bands.y_prob[:steps],
                baseline=None if baseline is None else baseline[:steps],
                calibrated=None if calibrated is None else calibrated[:steps],
                thresholds=record.thresholds,
                above=None if record.above is None else record.above[:steps],
            )
            if len(self._markets) > self._settings.max_markets:
                self._markets.popitem(last=False)


def _completed(waiting: Mapping[str, _Waiting], record: ForecastRecord) -> list[_Waiting]:
    """The forecasts whose last step is not after the end of this window."""
    return [
        one
        for one in waiting.values()
        if one.step_s == record.step_s
        and (record.as_of - one.as_of) / one.step_s + TOLERANCE_STEPS >= len(one.bands)
    ]


def _outcomes(
    waiting: _Waiting, record: ForecastRecord
) -> tuple[NDArray[np.bool_], FloatArray] | None:
    """Which steps ``(H,)`` have an outcome, and the outcomes ``(N,)``.

    None if the window does not hold enough of them, or is not on the forecast's grid.
    """
    exact = (record.as_of - waiting.as_of) / waiting.step_s
    after, window = round(exact), record.observed_prob
    first = len(window) - after
    if abs(exact - after) > TOLERANCE_STEPS or first < 0:
        return None
    outcomes = window[first : first + len(waiting.bands)]
    known = np.isfinite(outcomes)
    if known.mean() < LEAST_OUTCOMES:
        return None
    return known, outcomes[known]


def _brier_scores(
    one: _Waiting, baseline: FloatArray, known: NDArray[np.bool_], y: FloatArray
) -> list[float]:
    """Of the answered probabilities and of the baseline's, mean over steps and thresholds.

    Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review
    78(1), 1950.
    """
    if not one.thresholds:
        return [np.nan, np.nan]
    levels, happened = one.levels.tolist(), y[:, None] > np.array(one.thresholds)
    answered = one.above
    if answered is None:
        answered = probability_above(one.bands, levels, one.thresholds)
    both = answered, probability_above(baseline, levels, one.thresholds)
    return [float(((above[known] - happened) ** 2).mean()) for above in both]


def pinball(bands: FloatArray, levels: FloatArray, y_prob: FloatArray) -> FloatArray:
    """Pinball losses ``(N, Q)`` of outcomes ``(N,)`` in bands ``(N, Q)`` at levels ``(Q,)``.

    >>> pinball(np.array([[0.4, 0.5]]), np.array([0.1, 0.5]), np.array([0.6])).round(3).tolist()
    [[0.02, 0.05]]
    """
    over = y_prob[:, None] - bands
    losses: FloatArray = np.maximum(levels * over, (levels - 1) * over)
    return losses


def interval_scores(losses: FloatArray, levels: FloatArray) -> FloatArray:
    """Interval scores ``(N,)`` of the outermost levels, from pinball losses ``(N, Q)``.

    The width, and the distance of an outcome outside over the level of that side: for the levels
    0.1 and 0.9 ten times the distance. Gneiting, Raftery, "Strictly proper scoring rules,
    prediction, and estimation", JASA 102(477), 2007, section 6.2.

    >>> bands, levels = np.array([[0.4, 0.6], [0.4, 0.6]]), np.array([0.1, 0.9])
    >>> interval_scores(pinball(bands, levels, np.array([0.5, 0.65])), levels).round(3).tolist()
    [0.2, 0.7]
    """
    scores: FloatArray = losses[:, 0] / levels[0] + losses[:, -1] / (1 - levels[-1])
    return scores


def _inside(bands: FloatArray, y_prob: FloatArray) -> FloatArray:
    inside = (y_prob >= bands[:, 0] - ROUNDING) & (y_prob <= bands[:, -1] + ROUNDING)
    return inside.astype(np.float64)
