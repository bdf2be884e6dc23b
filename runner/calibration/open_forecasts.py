"""Forecasts whose outcomes are not known yet: bounded, and each step is scored once.

The latest forecasts of a market are stored by (time, step, source), also when all steps are scored:
an equal request, from another replica or after its cache entry expired, is not a new forecast. Over
`max_pending_per_market` the earliest is dropped, over `max_markets` the least recently used market.
"""

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from runner.calibration.coverage import LearningEvent
from runner.config.conformal import ConformalSection
from runner.types import FloatArray

# The distance in steps between a forecast time and the time of its outcome: the clocks of callers
# differ by seconds. Windows of another phase (a 5m series sent every minute) must not match.
TOLERANCE_STEPS = 0.1

Key = tuple[float, int, str]  # as_of, step_s, source


@dataclass(slots=True, eq=False)
class OpenForecast:
    """One forecast with unknown outcomes."""

    as_of: float
    step_s: int
    source: str
    segments: tuple[str, ...]  # the narrowest first
    interval: FloatArray  # (H, 3): lower end, centre, upper end of the target's, before limits
    answered: FloatArray  # (H, 4): the target's interval as answered, then the outermost levels
    factors: FloatArray  # (H, 2) of its calibration, also if not asked for; NaN: uncalibrated
    open: NDArray[np.bool_]  # (H,) True for steps that are not scored yet
    breach: int = 0  # of the first step, once it is scored: -1 below the band, 1 above it

    @property
    def key(self) -> Key:
        """Equal for equal forecasts."""
        return self.as_of, self.step_s, self.source


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Values of a market at ``end_ts`` and at each step before, NaN for none."""

    end_ts: float
    y_prob: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class MatchedActuals:
    """N steps of forecasts with their outcomes."""

    forecasts: Sequence[OpenForecast]  # one for each step; a forecast can be in it several times
    pair: NDArray[np.int64]  # (N,) number of the pair of forecast and window
    step: NDArray[np.int64]  # (N,) number of the step, from 0
    y_prob: FloatArray  # (N,) outcomes


@dataclass(slots=True)
class _Market:
    known: dict[Key, OpenForecast | None] = field(default_factory=dict)  # None: all is scored
    floor: float = -np.inf  # the latest time of a dropped forecast

    @property
    def waiting(self) -> list[OpenForecast]:
        return [forecast for forecast in self.known.values() if forecast is not None]


class OpenForecasts:
    """The forecasts of all markets; ``counts`` holds what was dropped and missed."""

    def __init__(self, settings: ConformalSection) -> None:
        self._settings = settings
        self._markets: OrderedDict[str, _Market] = OrderedDict()
        self.waiting = 0  # forecasts with open steps
        self.counts: Counter[LearningEvent] = Counter()

    @property
    def markets(self) -> int:
        """Number of markets with forecasts."""
        return len(self._markets)

    def is_known(self, market_id: str, key: Key) -> bool:
        """Whether an equal forecast was added, or this one is older than a dropped one."""
        market = self._markets.get(market_id)
        return market is not None and (key in market.known or key[0] <= market.floor)

    def add(self, market_id: str, forecast: OpenForecast) -> None:
        """Adds a forecast that is not known yet."""
        market = self._markets.setdefault(market_id, _Market())
        self._markets.move_to_end(market_id)
        market.known[forecast.key] = forecast
        self.waiting += 1
        self.counts[LearningEvent.ISSUED] += 1
        if len(market.known) > self._settings.max_pending_per_market:
            earliest = min(market.known)
            market.floor = max(market.floor, earliest[0])
            self._drop(int(market.known.pop(earliest) is not None))
        if len(self._markets) > self._settings.max_markets:
            _, oldest = self._markets.popitem(last=False)
            self.counts[LearningEvent.DROPPED_MARKETS] += 1
            self._drop(len(oldest.waiting))

    def awaiting(self, market_id: str, window: Window, step_s: int | None) -> list[OpenForecast]:
        """The forecasts of a market, of this step or of any, for which a window may hold values."""
        market = self._markets.get(market_id)
        if market is None:
            return []
        self._markets.move_to_end(market_id)
        return [p for p in market.waiting if step_s in (None, p.step_s) and _reaches(window, p)]

    def close(self, market_id: str, step_s: int = 0, end_ts: float = -np.inf) -> None:
        """Closes the forecasts without an open step, and those whose time has passed.

        Forecasts that ended a whole step before the end of a window have missed their open steps.
        """
        market = self._markets.get(market_id)
        for forecast in market.waiting if market is not None else ():
            over_ts = forecast.as_of + forecast.step_s * (len(forecast.open) + 1)
            behind = forecast.step_s == step_s and end_ts >= over_ts
            if behind or not forecast.open.any():
                self._markets[market_id].known[forecast.key] = None
                self.waiting -= 1
                self.counts[LearningEvent.MISSED] += int(forecast.open.sum())

    def _drop(self, forecasts: int) -> None:
        self.waiting -= forecasts
        self.counts[LearningEvent.DROPPED_FORECASTS] += forecasts


def match_actuals(pairs: Sequence[tuple[OpenForecast, Window]]) -> MatchedActuals:
    """Finds the open steps for which windows hold a value, and closes them.

    Each forecast is paired with a window of its own step; the first value for a step is used.
    """
    pair, step, y_prob = _values(pairs)
    used: list[int] = []
    for number, (i, h) in enumerate(zip(pair.tolist(), step.tolist(), strict=True)):
        open_ = pairs[i][0].open
        if open_[h]:
            open_[h] = False
            used.append(number)
    forecasts = [pairs[i][0] for i in pair[used].tolist()]
    return MatchedActuals(forecasts, pair[used], step[used], y_prob[used])


def _values(
    pairs: Sequence[tuple[OpenForecast, Window]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
    """Pair, step and value ``(N,)`` of every open step that a window has a value for."""
    lengths = [len(forecast.open) for forecast, _ in pairs]
    open_ = np.zeros((len(pairs), max(lengths, default=0)), dtype=np.bool_)  # (P, H)
    for row, (forecast, _) in zip(open_, pairs, strict=True):
        row[: len(forecast.open)] = forecast.open
    ahead = np.array([(p.as_of - w.end_ts) / p.step_s for p, w in pairs])  # (P,) in steps
    sizes = np.array([len(window.y_prob) for _, window in pairs], dtype=np.int64)
    ends = np.cumsum(sizes)  # (P,) of each window in the row of all windows
    back = ahead[:, None] + np.arange(1, open_.shape[1] + 1)  # (P, H) steps after the window's end
    nearest = np.rint(back)
    near = np.abs(back - nearest) <= TOLERANCE_STEPS
    inside = open_ & near & (nearest <= 0) & (nearest > -sizes[:, None])
    pair, step = np.nonzero(inside)
    flat = np.concatenate([np.empty(0), *(window.y_prob for _, window in pairs)])
    values = flat[ends[pair] - 1 + nearest[pair, step].astype(np.int64)]
    known = np.isfinite(values)
    return pair[known], step[known], values[known]


def _reaches(window: Window, forecast: OpenForecast) -> bool:
    """Whether the window is on the grid of the forecast and overlaps its steps."""
    ahead = (window.end_ts - forecast.as_of) / forecast.step_s
    aligned = abs(ahead - round(ahead)) <= TOLERANCE_STEPS
    start = ahead - len(window.y_prob) + 1
    last = len(forecast.open) + TOLERANCE_STEPS
    return aligned and ahead >= 1 - TOLERANCE_STEPS and start <= last
