"""Scores forecasts of models beside the baseline's for the same windows, from the requests alone.

Of each market and source one forecast at a time waits for its outcomes: the next one begins when
all steps of this one are in the window of a later request. So no outcome counts twice, and a market
with a request every five minutes and 12 steps gives one pair an hour. Requests whose window does
not reach back far enough give none.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from runner.calibration.coverage import ROUNDING, ForecastRecord, SegmentOf
from runner.calibration.open_forecasts import TOLERANCE_STEPS
from runner.calibration.skill import EVERYTHING, Paired, skill_segment
from runner.config.conformal import ConformalSection
from runner.types import BASELINE_MODEL, FloatArray

# The baseline's bands ``(H, Q)`` for the window and levels of each record.
Baseline = Callable[[Sequence[ForecastRecord]], Sequence[FloatArray]]
LEAST_OUTCOMES = 2 / 3  # of the steps of a forecast, for a score: else a gap decides


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A forecast and the baseline's for the same window: ``(H, Q)`` each."""

    as_of: float
    step_s: int
    source: str
    segment: str
    levels: FloatArray
    bands: FloatArray
    baseline: FloatArray


class PairedScores:
    """The pairs that wait, and what is known of each source and segment."""

    def __init__(
        self, baseline: Baseline, known: Mapping[SegmentOf, Paired], settings: ConformalSection
    ) -> None:
        self._baseline = baseline
        self._settings = settings
        self._markets: OrderedDict[str, dict[str, _Waiting]] = OrderedDict()  # by source
        self._known: OrderedDict[SegmentOf, Paired] = OrderedDict(known)

    @property
    def known(self) -> dict[SegmentOf, Paired]:
        """The sums of each source and segment."""
        return dict(self._known)

    def learn(self, batch: Sequence[ForecastRecord]) -> None:
        """Scores the forecasts whose outcomes these records hold, and adds the records' own."""
        scored = defaultdict[SegmentOf, list[list[float]]](list)
        new: dict[str, ForecastRecord] = {}  # by market
        for record in batch:
            if record.market_id in new:  # a later record of a market can score this one
                self._add([*new.values()])
                new.clear()
            waiting = self._markets.get(record.market_id, {})
            for one in _completed(waiting, record):
                del waiting[one.source]
                if row := _scores(one, record):
                    scored[one.source, one.segment].append(row)
                    scored[one.source, EVERYTHING].append(row)
            if record.source != BASELINE_MODEL and record.source not in waiting:
                new[record.market_id] = record
        self._add([*new.values()])
        for where, rows in scored.items():
            self._known[where] = self._known.get(where, Paired()).after(np.array(rows))
            self._known.move_to_end(where)
            if len(self._known) > self._settings.max_segments:
                self._known.popitem(last=False)

    def _add(self, records: Sequence[ForecastRecord]) -> None:
        for record, baseline in zip(records, self._baseline(records), strict=True):
            steps = min(len(baseline), self._settings.max_steps)
            waiting = self._markets.setdefault(record.market_id, {})
            self._markets.move_to_end(record.market_id)
            waiting[record.source] = _Waiting(
                as_of=record.as_of,
                step_s=record.step_s,
                source=record.source,
                segment=skill_segment(record.observed_prob, record.freq, record.liquidity),
                levels=np.asarray(record.levels),
                bands=record.bands.y_prob[:steps],
                baseline=baseline[:steps],
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


def _scores(waiting: _Waiting, record: ForecastRecord) -> list[float] | None:
    """Losses of the source and of the baseline, then their shares of covered steps.

    None if the window does not hold enough of the outcomes, or is not on the forecast's grid.
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
    y, both = outcomes[known], (waiting.bands[known], waiting.baseline[known])
    losses = [float(pinball(bands, waiting.levels, y).mean()) for bands in both]
    return [*losses, *(float(_inside(bands, y).mean()) for bands in both)]


def pinball(bands: FloatArray, levels: FloatArray, y_prob: FloatArray) -> FloatArray:
    """Pinball losses ``(N, Q)`` of outcomes ``(N,)`` in bands ``(N, Q)`` at levels ``(Q,)``.

    >>> pinball(np.array([[0.4, 0.5]]), np.array([0.1, 0.5]), np.array([0.6])).round(3).tolist()
    [[0.02, 0.05]]
    """
    over = y_prob[:, None] - bands
    losses: FloatArray = np.maximum(levels * over, (levels - 1) * over)
    return losses


def _inside(bands: FloatArray, y_prob: FloatArray) -> FloatArray:
    inside = (y_prob >= bands[:, 0] - ROUNDING) & (y_prob <= bands[:, -1] + ROUNDING)
    return inside.astype(np.float64)
