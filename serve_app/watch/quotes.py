"""Prices of markets as sources give them, and the request that checks them.

Quotes come at any time; the service learns from series with a fixed step. So a request has one
value for each step up to the last whole one before now: the newest quote within the step, or none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np

from runner.forecast.resolved_request import regularise
from runner.types import FloatArray

LEAST_PRICES = 3  # two to forecast from, and the newest


@dataclass(frozen=True, slots=True)
class Quotes:
    """The recent prices of one market; times are POSIX seconds, in any order."""

    market_id: str
    times: Sequence[float]
    prices: Sequence[float]  # probabilities
    title: str | None = None
    volume: float | None = None  # of the last day, in the exchange's currency
    is_closed: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """The markets of one cycle; of those that cannot be used, the reason."""

    quotes: list[Quotes] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # by market


class Source(Protocol):
    """Gives the recent prices of markets. `docs/watch.md` shows how to add one."""

    async def read(self, now: float) -> Reading:
        """The prices up to ``now`` (POSIX seconds); raises SourceError if nothing can be read."""
        ...


class SourceError(Exception):
    """A source cannot be read in this cycle; the text says why, without any secret."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The prices of a market on a regular grid."""

    market_id: str
    end_ts: float  # of the last step
    y_prob: FloatArray  # (T,) NaN: nothing was quoted in this step
    title: str | None = None

    def body(self, freq: str, newest_steps: int, options: Mapping[str, Any]) -> dict[str, Any]:
        """The request that checks the newest steps."""
        return {
            "market_id": self.market_id,
            "as_of_ts": datetime.fromtimestamp(self.end_ts, UTC).isoformat(),
            "freq": freq,
            "y": [None if np.isnan(y) else y for y in self.y_prob.tolist()],
            "newest_steps": newest_steps,
            **options,
        }


def window_of(quotes: Quotes, now: float, step_s: int, points: int) -> Window | str:
    """The last ``points`` steps that end at a multiple of ``step_s``, or why there are none."""
    if quotes.is_closed:
        return "it is closed"
    if _readable(quotes.market_id) != quotes.market_id:
        return "its id is no valid text"
    end_ts = now // step_s * step_s
    times, order = np.unique(np.asarray(quotes.times, dtype=np.float64), return_index=True)
    prices = np.asarray(quotes.prices, dtype=np.float64)[order]
    usable = (times > 0) & (times <= end_ts) & np.isfinite(prices)
    times, prices = times[usable], prices[usable]
    if ((prices < 0) | (prices > 1)).any():
        return "its prices are not between 0 and 1"
    if times.size < LEAST_PRICES:
        return f"it has {times.size} prices"
    times, prices = np.append(times, end_ts), np.append(prices, np.nan)
    if times[-2] == end_ts:
        times, prices = times[:-1], prices[:-1]
    grid = regularise(prices, times, {}, step_s, points).observed_prob
    if np.isnan(grid[-1]):
        newest = datetime.fromtimestamp(times[np.isfinite(prices)][-1], UTC)
        return f"its newest price is of {newest:%Y-%m-%d %H:%M} UTC, before the newest step"
    if np.isfinite(grid).sum() < LEAST_PRICES:
        return "its prices are too far apart"
    return Window(quotes.market_id, end_ts, grid, quotes.title and _readable(quotes.title))


def _readable(text: str) -> str:
    """Without halves of characters, as of an emoji that was cut: JSON has them, UTF-8 has not."""
    return text.encode("utf-8", "replace").decode("utf-8")
