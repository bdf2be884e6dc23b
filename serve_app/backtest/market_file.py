"""Makes regular series of the prices in a file, which `tsfm_client.series_files` reads.

Prices lie in [0, 1]. The columns ``platform``, ``category``, ``event`` and ``liquidity`` are
optional and are read from a market's first row. Rows of one market ascend in time, at one step;
rows of several markets may be mixed, and each market has a step of its own. Times may be a little
late, and a last row that comes before its step is complete is left out.

A missing row or an empty price means an unchanged price: up to ``LONGEST_GAP_STEPS`` of them are
carried forward; a longer gap ends the series and starts another.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from runner.types import FloatArray
from tsfm_client.series_files import Market, PriceFile, SeriesFileError

Rows = NDArray[np.int_]  # numbers of rows of the file

LABELS = ("platform", "category", "event", "liquidity")
LONGEST_GAP_STEPS = 12  # equals the default of request.max_gap_minutes for steps of 5 minutes
MAX_LATE_FRACTION = 0.1  # of a step: how far a time may lie from the grid
MAX_ODD_FRACTION = 0.1  # of a market's steps; above it, the steps are mixed frequencies, not gaps


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One market's prices on a regular grid, without long gaps."""

    market_id: str
    start_ts: float  # of the first value, POSIX seconds
    step_s: float
    y_prob: FloatArray  # (N,) in [0, 1]
    known: NDArray[np.bool_]  # (N,) False where a missing value was carried forward
    labels: Mapping[str, str] = field(default_factory=dict)  # by the names in LABELS


def series_of(prices: PriceFile) -> list[Series]:
    """All series in the file.

    Raises:
        SeriesFileError: there are no times, or a row is not valid.
    """
    if prices.given:
        raise SeriesFileError(f"{prices.name}: contains requests; a backtest needs prices")
    return [series for one in prices.markets.values() for series in _series_of(prices, one)]


def _series_of(prices: PriceFile, market: Market) -> Iterator[Series]:
    """The series of one market: one, or several where there are long gaps."""
    if not market.times:
        raise SeriesFileError(f"{prices.name}: has no times; add a column ts")
    ts, rows = np.array(market.times), np.array(market.rows)
    y_prob = np.array(market.values, dtype=np.float64)  # None becomes NaN
    _check(prices, market, rows, ts, y_prob)
    if len(rows) < 2:
        return
    step_s = _step(np.diff(ts))
    if ts[-1] - ts[-2] < (1 - MAX_LATE_FRACTION) * step_s:  # a download ends at the present
        ts, rows, y_prob = ts[:-1], rows[:-1], y_prob[:-1]
    _check_steps(prices, rows, np.diff(ts), step_s)
    ts, y_prob = ts[~np.isnan(y_prob)], y_prob[~np.isnan(y_prob)]
    if len(ts) < 2:
        return
    cuts = np.flatnonzero(np.diff(ts) > (LONGEST_GAP_STEPS + 0.5) * step_s) + 1
    for part in np.split(np.arange(len(ts)), cuts):
        start_ts = float(ts[part[0]])
        at = np.rint((ts[part] - start_ts) / step_s).astype(int)  # index on the grid
        newest = np.diff(at, append=at[-1] + 1) > 0  # of two late times on one step
        known = np.zeros(at[-1] + 1, dtype=bool)
        known[at] = True
        path = y_prob[part][newest][np.cumsum(known) - 1]  # the last known price
        yield Series(market.market_id, start_ts, step_s, path, known, market.labels)


def _check(prices: PriceFile, market: Market, rows: Rows, ts: FloatArray, y: FloatArray) -> None:
    time, value = prices.columns
    gaps = np.diff(ts, prepend=-np.inf)
    outside = (y < 0) | (y > 1)
    checks = (
        (value or market.market_id, outside, "must lie between 0 and 1; divide cents by 100"),
        (time, gaps == 0, "this market already has a price at this time"),
        (time, gaps < 0, "is before this market's previous row; sort the file by time"),
    )
    for column, wrong, why in checks:
        for row in rows[wrong][:1]:
            raise prices.error(int(row), column, why)


def _step(gaps_s: FloatArray) -> float:
    """The most frequent step, in seconds; in whole minutes if no step is usual."""
    found, counts = np.unique(gaps_s.round(3), return_counts=True)
    if counts.max() * 2 < len(gaps_s):
        minutes = np.maximum(np.rint(gaps_s / 60), 1)
        found, counts = np.unique(minutes * 60, return_counts=True)
    return float(found[counts.argmax()])


def _check_steps(prices: PriceFile, rows: Rows, gaps_s: FloatArray, step_s: float) -> None:
    """All steps must be multiples of the market's step, but for times that are a little late."""
    steps = gaps_s / step_s
    off_grid = np.abs(steps - np.rint(steps)) > MAX_LATE_FRACTION
    odd = np.rint(steps) != 1
    if off_grid.any() or odd.mean() > MAX_ODD_FRACTION:
        at = int(np.flatnonzero(off_grid | odd)[0])
        why = (
            f"mixed frequencies: {gaps_s[at]:g} s after the row before, in a market with steps "
            f"of {step_s:g} s; bring each market to one regular step"
        )
        raise prices.error(int(rows[at + 1]), prices.columns[0], why)
