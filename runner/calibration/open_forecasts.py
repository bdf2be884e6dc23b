"""Forecasts that wait for what they forecast: bounded, and each step is met once.

A market remembers its latest forecasts by (time, step, source), also when every step is scored: an
equal request that comes again, by another replica or after the cache's time, is not a new forecast.
Beyond `max_pending_per_market` the earliest is dropped, beyond `max_markets` the market that was
heard of longest ago.
"""

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from runner.calibration.coverage import LearningEvent
from runner.config.conformal import ConformalSection
from runner.types import FloatArray

# How far from a forecast time, in steps, a value may lie and still be its outcome: requests are
# sent by clocks that are seconds off. Windows of another phase (a 5m series asked for every minute)
# must not match.
TOLERANCE_STEPS = 0.1

Key = tuple[float, int, str]  # as_of, step_s, source


@dataclass(slots=True, eq=False)
class OpenForecast:
    """One forecast that waits.

    Attributes:
        segments: where it belongs, the narrowest first.
        interval: ``(H, 3)`` lower end, centre, upper end of the target's interval, before limits.
        answered: ``(H, 4)`` as it left: the target's interval, then the outermost levels.
        factors: ``(H, 2)`` that stretched, or would have stretched, the halves; None: uncalibrated.
        open: ``(H,)`` which steps are not scored yet.
    """

    as_of: float
    step_s: int
    source: str
    segments: tuple[str, ...]
    interval: FloatArray
    answered: FloatArray
    factors: FloatArray | None
    open: NDArray[np.bool_]

    @property
    def key(self) -> Key:
        """What an equal forecast shares."""
        return self.as_of, self.step_s, self.source

    @property
    def last_ts(self) -> float:
        """When its last step comes true."""
        return self.as_of + self.step_s * len(self.open)


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Values of a market at ``end_ts`` and at each step of a forecast before, NaN for none."""

    end_ts: float
    y_prob: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class MatchedActuals:
    """Steps that have met their outcome.

    Attributes:
        forecasts: those that were hit.
        index: ``(N,)`` into ``forecasts``.
        pair: ``(N,)`` which pair of forecast and window it was.
        step: ``(N,)`` which step of it, from 0.
        y_prob: ``(N,)`` what came.
    """

    forecasts: Sequence[OpenForecast]
    index: NDArray[np.int64]
    pair: NDArray[np.int64]
    step: NDArray[np.int64]
    y_prob: FloatArray


@dataclass(slots=True)
class _Market:
    known: dict[Key, OpenForecast | None] = field(
        default_factory=dict
    )  # None: nothing left to score
    floor: float = -np.inf  # the latest time of a forecast that has been dropped

    @property
    def waiting(self) -> list[OpenForecast]:
        return [pending for pending in self.known.values() if pending is not None]


class OpenForecasts:
    """The forecasts of all markets; ``counts`` tells what was dropped and missed."""

    def __init__(self, settings: ConformalSection) -> None:
        self._settings = settings
        self._markets: OrderedDict[str, _Market] = OrderedDict()
        self._waiting = 0
        self.counts: Counter[LearningEvent] = Counter()

    @property
    def markets(self) -> int:
        """How many markets are followed."""
        return len(self._markets)

    @property
    def waiting(self) -> int:
        """How many forecasts wait for an outcome."""
        return self._waiting

    def knows(self, market_id: str, key: Key) -> bool:
        """Whether an equal forecast has been issued, or one so old that nobody would remember."""
        market = self._markets.get(market_id)
        return market is not None and (key in market.known or key[0] <= market.floor)

    def issue(self, market_id: str, pending: OpenForecast) -> None:
        """Waits for the outcomes of a forecast that is not known yet."""
        market = self._markets.setdefault(market_id, _Market())
        self._markets.move_to_end(market_id)
        market.known[pending.key] = pending
        self._waiting += 1
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
        """Forecasts of a market that a window may hold values for.

        Args:
            market_id: the market, which is kept longer now.
            window: values on the grid of ``step_s``; of any forecast's where that is None.
            step_s: forecasts of other steps are left alone.
        """
        market = self._markets.get(market_id)
        if market is None:
            return []
        self._markets.move_to_end(market_id)
        return [p for p in market.waiting if step_s in (None, p.step_s) and _reaches(window, p)]

    def close(self, market_id: str, step_s: int = 0, end_ts: float = -np.inf) -> None:
        """Lets go of forecasts without an open step, and of those that time has left behind.

        Args:
            market_id: whose forecasts.
            step_s: of a window of the market.
            end_ts: its end. What is a whole step behind it has missed what was not observed.
        """
        market = self._markets.get(market_id)
        for pending in market.waiting if market is not None else ():
            behind = pending.step_s == step_s and end_ts >= pending.last_ts + step_s
            if behind or not pending.open.any():
                self._markets[market_id].known[pending.key] = None
                self._waiting -= 1
                self.counts[LearningEvent.MISSED] += int(pending.open.sum())

    def _drop(self, forecasts: int) -> None:
        self._waiting -= forecasts
        self.counts[LearningEvent.DROPPED_FORECASTS] += forecasts


def match_actuals(pairs: Sequence[tuple[OpenForecast, Window]]) -> MatchedActuals:
    """The open steps that windows hold a value for, which are open no longer.

    Args:
        pairs: forecasts, each beside a window of its own step; the first value for a step counts.
    """
    forecasts = list({id(pending): pending for pending, _ in pairs}.values())
    number = {id(pending): i for i, pending in enumerate(forecasts)}
    index = np.array([number[id(pending)] for pending, _ in pairs], dtype=np.int64)
    pair, step, y_prob = _values(pairs)
    slots = index[pair] * (int(step.max(initial=0)) + 1) + step
    _, first = np.unique(slots, return_index=True)
    first.sort()
    hits = MatchedActuals(forecasts, index[pair][first], pair[first], step[first], y_prob[first])
    for i, h in zip(hits.index.tolist(), hits.step.tolist(), strict=True):
        forecasts[i].open[h] = False
    return hits


def _values(
    pairs: Sequence[tuple[OpenForecast, Window]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
    """Pair, step and value ``(N,)`` of every open step that a window has a value for."""
    lengths = [len(pending.open) for pending, _ in pairs]
    open_ = np.zeros((len(pairs), max(lengths, default=0)), dtype=np.bool_)  # (P, H)
    for row, (pending, _) in zip(open_, pairs, strict=True):
        row[: len(pending.open)] = pending.open
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


def _reaches(window: Window, pending: OpenForecast) -> bool:
    """Whether the window is in step with the forecast and overlaps the time it speaks of."""
    ahead = (window.end_ts - pending.as_of) / pending.step_s
    aligned = abs(ahead - round(ahead)) <= TOLERANCE_STEPS
    start = ahead - len(window.y_prob) + 1
    last = len(pending.open) + TOLERANCE_STEPS
    return aligned and ahead >= 1 - TOLERANCE_STEPS and start <= last
