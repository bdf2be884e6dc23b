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
    """One market's prices on a regular grid, without long gaps."""

    market_id: str
    start_ts: float  # of the first value, POSIX seconds
    step_s: float
    y_prob: FloatArray  # (N,) in [0, 1]
    known: NDArray[np.bool_]  # (N,) False where a missing value was carried forward
    labels: Mapping[str, str] = field(default_factory=dict)  # by the names in LABELS


def load_series(path: Path) -> list[Series]:
    """All series in the file.

    Raises:
        ConfigError: the file is missing or not a table, a column is missing, or a row is not valid.
    """
    table = _read(path)
    _check(path, table)
    markets = table.groupby("market_id", sort=False)
    return [series for _, rows in markets for series in _series_of(path, rows)]


def _read(path: Path) -> Any:
    """A DataFrame with a row for each price: times in POSIX seconds, text "" for missing values."""
    import pandas as pd  # of an optional extra

    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path).reset_index(drop=True)
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
    texts = [name for name in ("market_id", *LABELS) if name in frame.columns]
    table = frame[texts].astype("string").fillna("").astype(object)
    price = pd.to_numeric(frame["price"], errors="coerce").astype("float64")
    return table.assign(ts=_seconds(frame["ts"]), price=price)


def _seconds(column: Any) -> Any:
    """POSIX seconds, NaN where a value is not a time."""
    import pandas as pd

    seconds = column if column.dtype.kind == "M" else pd.to_numeric(column, errors="coerce")
    if column.dtype.kind == "M" or seconds.isna().all():
        moments = pd.to_datetime(column, utc=True, format="ISO8601", errors="coerce")
        seconds = (moments - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    return seconds.astype("float64")


def _check(path: Path, table: Any) -> None:
    ts, price = table["ts"], table["price"]
    gaps = table.groupby("market_id")["ts"].diff()
    checks = (
        ("market_id", table["market_id"] == "", "is empty"),
        ("ts", ~np.isfinite(ts), "is not a time; write all as seconds since 1970 or as ISO-8601"),
        (
            "ts",
            ts.abs() > _LATEST_TS,
            "is out of range; write seconds since 1970, not milliseconds",
        ),
        ("price", ~np.isfinite(price), "is not a number"),
        ("price", ~price.between(0, 1), "must lie between 0 and 1; divide cents by 100"),
        ("ts", gaps == 0, "this market already has a price at this time"),
        ("ts", gaps < 0, "is before this market's previous row; sort the file by time"),
    )
    for column, wrong, why in checks:
        for row in np.flatnonzero(wrong)[:1]:
            _refuse(path, int(row), column, why)


def _refuse(path: Path, row: int, column: str, why: str) -> NoReturn:
    """Raises an error for a row, counted from 0; the message counts from 1."""
    line = f" (line {row + 2})" if path.suffix != ".parquet" else ""
    raise ConfigError(f"{path.name}: row {row + 1}{line}, column {column}: {why}.")


def _series_of(path: Path, rows: Any) -> Iterator[Series]:
    """The series of one market: one, or several where there are long gaps."""
    if len(rows) < 2:
        return
    ts, price, first = rows["ts"].to_numpy(), rows["price"].to_numpy(), rows.iloc[0]
    step_s = _step(path, rows.index, np.diff(ts))
    labels = {name: str(first[name]) for name in LABELS if name in rows.columns}
    cuts = np.flatnonzero(np.diff(ts) > (LONGEST_GAP_STEPS + 0.5) * step_s) + 1
    for part in np.split(np.arange(len(rows)), cuts):
        at = np.rint((ts[part] - ts[part[0]]) / step_s).astype(int)  # index on the grid
        known = np.zeros(at[-1] + 1, dtype=bool)
        known[at] = True
        values = price[part][np.cumsum(known) - 1]  # the last known price
        yield Series(str(first["market_id"]), float(ts[part[0]]), step_s, values, known, labels)


def _step(path: Path, rows: Any, gaps_s: FloatArray) -> float:
    """The market's step, in seconds: the most frequent one; all others must be multiples of it."""
    found, counts = np.unique(gaps_s.round(3), return_counts=True)
    step_s = float(found[counts.argmax()])
    steps = gaps_s / step_s
    off_grid = np.abs(steps - np.rint(steps)) > 1e-3
    odd = np.rint(steps) != 1
    if off_grid.any() or odd.mean() > MAX_ODD_FRACTION:
        at = int(np.flatnonzero(off_grid | odd)[0])
        why = (
            f"mixed frequencies: {gaps_s[at]:g} s after the row before, in a market with steps "
            f"of {step_s:g} s; bring each market to one regular step"
        )
        _refuse(path, int(rows[at + 1]), "ts", why)
    return step_s
