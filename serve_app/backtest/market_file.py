"""Reads prices of markets from a CSV or Parquet file; errors name the row and the column.

A file has a row for each price: ``market_id``, ``ts`` (seconds since 1970, or ISO-8601) and
``price`` in [0, 1]; ``platform``, ``category``, ``event`` and ``liquidity`` are optional and are
read from a market's first row. Rows of one market ascend in time, at one step; rows of
several markets may be mixed, and each market has a step of its own. Row 1 is the first one below
the header.

A missing row means an unchanged price: up to ``LONGEST_GAP_STEPS`` missing rows are carried
forward; a longer gap ends the series and starts another.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from runner.errors import ConfigError
from runner.types import FloatArray

REQUIRED = ("market_id", "ts", "price")
LABELS = ("platform", "category", "event", "liquidity")
LONGEST_GAP_STEPS = 12  # equals the default of request.max_gap_minutes for steps of 5 minutes
MAX_ODD_FRACTION = 0.1  # of a market's steps; above it, the steps are mixed frequencies, not gaps
_LATEST_TS = 9.0e9  # year 2255; timestamps in milliseconds are larger


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One market's prices on a regular grid, without long gaps.

    Attributes:
        start_ts: time of the first value, POSIX seconds.
        step_s: seconds between values.
        y_prob: ``(N,)`` in [0, 1].
        known: ``(N,)`` False where a missing value was carried forward.
        labels: platform, category, event, liquidity; "" where the file has none.
    """

    market_id: str
    start_ts: float
    step_s: float
    y_prob: FloatArray
    known: NDArray[np.bool_]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Columns of the file in the order of its rows."""

    path: Path
    market: NDArray[np.intp]  # code of the market, (R,)
    names: list[str]  # by code
    ts: FloatArray
    price: FloatArray
    labels: Mapping[str, NDArray[Any]]

    def refuse(self, row: int, column: str, why: str) -> NoReturn:
        """Raises an error for a row, counted from 0; the message counts from 1."""
        line = f" (line {row + 2})" if self.path.suffix != ".parquet" else ""
        raise ConfigError(f"{self.path.name}: row {row + 1}{line}, column {column}: {why}.")


def load_series(path: Path) -> list[Series]:
    """All series in the file.

    Raises:
        ConfigError: the file is missing or not a table, a column is missing, or a row is not valid.
    """
    table = _read(path)
    _check_prices(table)
    order = np.argsort(table.market, kind="stable")  # a market's rows together, in file order
    _check_order(table, order)
    ends = np.cumsum(np.bincount(table.market, minlength=len(table.names)))
    parts = np.split(order, ends[:-1])
    return [series for rows in parts for series in _series_of(table, rows)]


def _read(path: Path) -> _Table:
    import pandas as pd  # of an optional extra

    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError as exc:
        raise ConfigError(f"{path}: there is no such file.") from exc
    except (OSError, ValueError) as exc:  # pandas' and pyarrow's own errors are ValueErrors
        raise ConfigError(f"{path.name or path}: this is no table in CSV or Parquet form.") from exc
    for column in REQUIRED:
        if column not in frame.columns:
            raise ConfigError(
                f"{path.name}: row 1, column {column}: there is no such column; "
                f"the file must have {', '.join(REQUIRED)}."
            )
    if frame.empty:
        raise ConfigError(f"{path.name}: row 1, column {REQUIRED[0]}: the file holds no rows.")
    market, names = pd.factorize(_text(frame["market_id"]))
    labels = {name: _text(frame[name]) for name in LABELS if name in frame.columns}
    price = pd.to_numeric(frame["price"], errors="coerce").to_numpy(dtype=np.float64)
    return _Table(path, market, [str(n) for n in names], _times(frame["ts"]), price, labels)


def _text(column: Any) -> NDArray[Any]:
    """Text, "" for missing values."""
    texts: NDArray[Any] = column.astype("string").fillna("").to_numpy(dtype=object)
    return texts


def _times(column: Any) -> FloatArray:
    """POSIX seconds, NaN where a value is not a time."""
    import pandas as pd

    seconds = column if column.dtype.kind == "M" else pd.to_numeric(column, errors="coerce")
    if column.dtype.kind == "M" or seconds.isna().all():
        moments = pd.to_datetime(column, utc=True, format="ISO8601", errors="coerce")
        seconds = (moments - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    times: FloatArray = seconds.to_numpy(dtype=np.float64)
    return times


def _check_prices(table: _Table) -> None:
    for row in _first(np.array([not name for name in table.names])[table.market]):
        table.refuse(row, "market_id", "is empty")
    for row in _first(~np.isfinite(table.ts)):
        table.refuse(row, "ts", "is not a time; write all as seconds since 1970 or as ISO-8601")
    for row in _first(np.abs(table.ts) > _LATEST_TS):
        table.refuse(row, "ts", "is out of range; write seconds since 1970, not milliseconds")
    for row in _first(~np.isfinite(table.price)):
        table.refuse(row, "price", "is not a number")
    for row in _first((table.price < 0) | (table.price > 1)):
        table.refuse(row, "price", "must lie between 0 and 1; divide cents by 100")


def _check_order(table: _Table, order: NDArray[np.intp]) -> None:
    same_market = np.diff(table.market[order]) == 0
    later = np.diff(table.ts[order])
    for at in _first(same_market & (later == 0)):
        table.refuse(int(order[at + 1]), "ts", "this market already has a price at this time")
    for at in _first(same_market & (later < 0)):
        table.refuse(
            int(order[at + 1]), "ts", "is before this market's previous row; sort the file by time"
        )


def _series_of(table: _Table, rows: NDArray[np.intp]) -> Iterator[Series]:
    """The series of one market: one, or several where there are long gaps."""
    ts = table.ts[rows]
    if len(rows) < 2:
        return
    step_s = _step(table, rows, np.diff(ts))
    labels = {name: str(values[rows[0]]) for name, values in table.labels.items()}
    name = table.names[table.market[rows[0]]]
    cuts = np.flatnonzero(np.diff(ts) > (LONGEST_GAP_STEPS + 0.5) * step_s) + 1
    for part in np.split(np.arange(len(rows)), cuts):
        at = np.rint((ts[part] - ts[part[0]]) / step_s).astype(int)  # index on the grid
        known = np.zeros(at[-1] + 1, dtype=bool)
        known[at] = True
        values = table.price[rows[part]][np.cumsum(known) - 1]  # the last known price
        yield Series(name, float(ts[part[0]]), step_s, values, known, labels)


def _step(table: _Table, rows: NDArray[np.intp], gaps_s: FloatArray) -> float:
    """The market's step, in seconds: the most frequent one; all others must be multiples of it."""
    found, counts = np.unique(gaps_s.round(3), return_counts=True)
    step_s = float(found[counts.argmax()])
    steps = gaps_s / step_s
    off_grid = np.abs(steps - np.rint(steps)) > 1e-3
    odd = np.rint(steps) != 1
    if off_grid.any() or odd.mean() > MAX_ODD_FRACTION:
        at = int(np.flatnonzero(off_grid | odd)[0])
        table.refuse(
            int(rows[at + 1]),
            "ts",
            f"mixed frequencies: {gaps_s[at]:g} s after the row before, in a market with steps "
            f"of {step_s:g} s; bring each market to one regular step",
        )
    return step_s


def _first(wrong: NDArray[np.bool_]) -> list[int]:
    return [int(i) for i in np.flatnonzero(wrong)[:1]]
