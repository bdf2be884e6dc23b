"""Reads prices of markets from a CSV, JSON or Parquet file; errors name the row and the column.

    CSV      a table, or one column of values without a header
    JSON     prices as Polymarket and Kalshi send them; a list of rows like those of a CSV; a list
             of numbers; numbers or rows by market id; requests as the API takes them; one of these
             a line (JSON lines)
    Parquet  a table; needs pandas and pyarrow

A table has a row for each price, with a time, a value and, for several markets, the market; or a
time and one column for each market. Columns have one of the names below, in any case, with or
without a unit in brackets; of several columns the first name counts. Times are ISO-8601 (UTC if
there is no zone), or seconds or milliseconds since 1970. Row 1 is the first one below the header.
"""

import csv
import gzip
import io
import json
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice, zip_longest
from math import isinf, isnan
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tsfm_client.body import request_body, to_moment
from tsfm_client.exchange_json import price_tables

TIME_NAMES = (
    "ts", "timestamp", "time", "t", "datetime", "date", "y_ts", "end_period_ts", "at",
)  # fmt: skip
VALUE_NAMES = (
    "price", "value", "y", "probability", "prob", "p", "close", "last", "yes_price", "mid",
)  # fmt: skip
MARKET_NAMES = (
    "market_id", "market", "ticker", "market_ticker", "symbol", "slug", "market_slug",
    "market_name", "contract_id", "contract", "contract_name", "token_id", "token", "question",
    "outcome", "id", "event_id", "event", "event_slug", "event_name",
)  # fmt: skip
_MOST_SHOWN = 20  # columns in an error
_FIRST_TIME_S = 1e9  # September 2001; larger numbers are times, not prices
_MOST_SECONDS = 1e11  # year 5138; larger numbers are milliseconds
_UNIT = re.compile(r"\s*\([^)]*\)$")  # as in "Date (UTC)"
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")
_DIGITS_OF_A_DATE = re.compile(r"(19|20)\d{6}")  # as in 20260220
_EMPTY = ("", "null", "nan", "na", "n/a", "none", "-")
_PERCENT = (
    "probabilities lie between 0 and 1, and these seem to be percentages; divide them by 100, "
    "or add --percent (percent=True in Python)"
)

Body = dict[str, Any]


class SeriesFileError(ValueError):
    """A file that cannot be read; the text names it and the reason."""


@dataclass(slots=True)
class Market:
    """The prices of one market, in the order of the file."""

    market_id: str
    labels: Mapping[str, str]  # other columns of its first row
    rows: list[int] = field(default_factory=list)  # counted from 1
    times: list[float] = field(default_factory=list)  # POSIX seconds; empty: the file has none
    values: list[float | None] = field(default_factory=list)


@dataclass(slots=True)
class PriceFile:
    """The prices in a file, or the requests if it contains requests."""

    name: str
    changed: datetime  # time of the last value, for values without times
    markets: dict[str, Market] = field(default_factory=dict)
    given: list[Body] = field(default_factory=list)  # requests in the file
    notes: list[str] = field(default_factory=list)  # what was assumed
    lines: Sequence[int] = ()  # of a CSV: the line of each row
    columns: tuple[str | None, str | None] = (None, None)  # names of the time and of the value

    def requests(self, points: int = 500) -> list[Body]:
        """A request for each market with its newest ``points`` values, or the given requests.

        Rows are sorted by time; of rows with equal times the last one counts.

        Raises:
            SeriesFileError: a value cannot be sent.
        """
        try:
            return self.given or [self._request(one, points) for one in self.markets.values()]
        except ValueError as exc:
            raise SeriesFileError(f"{self.name}: {exc}") from exc

    def _request(self, market: Market, points: int) -> Body:
        if not market.times:
            return request_body(market.market_id, market.values[-points:], as_of=self.changed)
        by_time = dict(zip(market.times, market.values, strict=True))
        newest = sorted(by_time)[-points:]
        return request_body(market.market_id, [by_time[t] for t in newest], times=newest)

    def error(self, row: int, column: str | None, why: str) -> SeriesFileError:
        """The error of a cell."""
        return SeriesFileError(f"{self.name}: {_place(row, self.lines, column)}: {why}")


def read_prices(path: Path, *, percent: bool = False, labels: Iterable[str] = ()) -> PriceFile:
    """Reads a file, decompressed if its name ends in .gz; ``-`` is stdin.

    ``percent`` divides values by 100; ``labels`` are the names of other columns to read.

    Raises:
        SeriesFileError: it cannot be read, or contains no valid series.
    """
    name = "stdin" if str(path) == "-" else path.name.removesuffix(".gz")
    try:
        content, changed = _content(path)
        found = PriceFile(name, datetime.fromtimestamp(changed, UTC))
        _fill(found, _tables(path, content, found), labels)
        _check_range(found, percent)
    except OSError as exc:
        raise SeriesFileError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    except (UnicodeDecodeError, EOFError, zlib.error) as exc:
        raise SeriesFileError(f"{path}: is not text in UTF-8") from exc
    except RecursionError as exc:
        raise SeriesFileError(f"{name}: its lists or objects are nested too deeply") from exc
    except (ValueError, csv.Error) as exc:
        reason = " ".join(str(exc).split())
        raise SeriesFileError(f"{name}: {reason}") from exc
    if not found.markets and not found.given:
        raise SeriesFileError(f"{name}: contains no values")
    return found


def prices_of_json(
    name: str, value: Any, changed: datetime, columns: Mapping[str, str] = MappingProxyType({})
) -> PriceFile:
    """The prices in a JSON value; ``columns`` are the names of its fields by those used here.

    Raises:
        SeriesFileError: it contains no valid series.
    """
    found = PriceFile(name, changed)
    theirs = {theirs: ours for ours, theirs in columns.items()}
    try:
        tables = [
            replace(table, columns={theirs.get(k, k): v for k, v in table.columns.items()})
            for table in _tables_of_json(value)
        ]
        _fill(found, tables, ())
        _check_range(found, percent=False)
    except (ValueError, RecursionError) as exc:
        raise SeriesFileError(f"{name}: {' '.join(str(exc).split())}") from exc
    if not found.markets:
        raise SeriesFileError(f"{name}: contains no values")
    return found


@dataclass(frozen=True, slots=True)
class _Table:
    """The cells of each column by its name; all columns have the same length."""

    columns: Mapping[str, Sequence[Any]]
    lines: Sequence[int] = ()
    market: str | None = None  # of rows that do not name one

    def parsed(self, column: str, parse: Callable[[Any], Any]) -> list[Any]:
        """The values of a column; ValueError with the row of a cell that is not valid."""
        values = []
        for row, cell in enumerate(self.columns[column], 1):
            try:
                values.append(parse(cell))
            except ValueError as exc:
                place = _place(row, self.lines, column)
                raise ValueError(f"{place}: {exc}") from exc
        return values


def _place(row: int, lines: Sequence[int], column: str | None) -> str:
    line = f" (line {lines[row - 1]})" if lines else ""
    return f"row {row}{line}" + (f", column {column}" if column else "")


def _content(path: Path) -> tuple[bytes, float]:
    """The unpacked content of a file, and the time of its last change."""
    if str(path) == "-":
        return sys.stdin.buffer.read(), os.fstat(0).st_mtime
    content = path.read_bytes()
    packed = path.suffix == ".gz"
    return gzip.decompress(content) if packed else content, path.stat().st_mtime


def _tables(path: Path, content: bytes, found: PriceFile) -> Iterable[_Table]:
    if path.suffix == ".parquet":
        return [_parquet(content)]
    text = content.decode("utf-8-sig")
    if text.lstrip()[:1] not in ("{", "["):
        return [_csv(text)]
    value = _json(text)
    if isinstance(value, dict):
        value = value.get("requests", [value] if isinstance(value.get("y"), list) else value)
    if isinstance(value, list) and value and all(_is_request(item) for item in value):
        found.given = value
        return []
    return _tables_of_json(value)


def _is_request(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("y"), list)


def _parquet(content: bytes) -> _Table:
    try:
        import pandas as pd

        frame = pd.read_parquet(io.BytesIO(content))
    except ImportError as exc:
        raise ValueError("Parquet needs pandas and pyarrow; install them, or write CSV") from exc
    except (ValueError, OSError, NotImplementedError) as exc:  # pyarrow's own errors are these
        raise ValueError("is not a table in Parquet form") from exc
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    cells = frame.astype(object).where(frame.notna(), None)
    return _Table({str(name): cells[name].tolist() for name in cells.columns})


def _csv(text: str) -> _Table:
    delimiter = max(",;\t", key=text.lstrip()[:4096].count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    numbered = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    if not numbered:
        return _Table({})
    names = numbered[0][1]
    if _is_data(names):
        names = ["ts", "price"][-len(names) :]
    else:
        del numbered[0]
    lines, rows = [line for line, _ in numbered], [row for _, row in numbered]
    columns = islice(zip_longest(names, *rows, fillvalue=""), len(names))
    return _Table({name: cells for name, *cells in columns}, lines)


def _is_data(cells: Sequence[str]) -> bool:
    """A first row without names: a value, or a time and a value."""
    *times, value = cells
    return len(times) <= 1 and all(map(_is_time, times)) and _float(value) is not None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as first:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError:
            raise ValueError(f"is not JSON (line {first.lineno}: {first.msg})") from first


def _tables_of_json(value: Any) -> Iterator[_Table]:
    for market, rows in price_tables(value):
        if rows and all(isinstance(row, dict) for row in rows):
            names = {name: None for row in rows for name in row}
            columns = {name: [row.get(name) for row in rows] for name in names}
        else:
            columns = {"": list(rows)}
        yield _Table(columns, market=market)


def _fill(found: PriceFile, tables: Iterable[_Table], labels: Iterable[str]) -> None:
    for table in tables:
        if any(table.columns.values()):
            _add_table(found, table, labels)


def _add_table(found: PriceFile, table: _Table, labels: Iterable[str]) -> None:
    names = {_name(name): name for name in table.columns}
    time, value, market = _columns(table, names)
    found.lines, found.columns = table.lines, (time, value)
    times = None
    if time is not None:
        times = table.parsed(time, _seconds)
        if not found.notes and _has_no_zone(time, table.columns[time][0]):
            found.notes.append(f"{found.name}: the times have no zone; UTC is assumed")
    if value is None:
        for name in [name for name in table.columns if name not in (time, "")]:
            values = table.parsed(name, _number)
            _add(found, [name.strip()] * len(values), times, values, {})
        return
    values = table.parsed(value, _number)
    default = table.market or found.name.partition(".")[0] or found.name
    ids = [default] * len(values) if market is None else table.parsed(market, _market_id)
    others = {label: table.columns[names[label]] for label in labels if label in names}
    _add(found, ids, times, values, others)


def _add(
    found: PriceFile,
    ids: Sequence[str],
    times: Sequence[float] | None,
    values: Sequence[float | None],
    labels: Mapping[str, Sequence[Any]],
) -> None:
    for i, market_id in enumerate(ids):
        one = found.markets.get(market_id)
        if one is None:
            first = {name: cells[i] for name, cells in labels.items()}
            texts = {name: "" if cell is None else str(cell) for name, cell in first.items()}
            one = found.markets[market_id] = Market(market_id, texts)
        one.rows.append(i + 1)
        one.values.append(values[i])
        if times is not None:
            one.times.append(times[i])


def _name(column: str) -> str:
    return re.sub(r"[\s-]+", "_", _UNIT.sub("", column.strip().lower()))


def _first(columns: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((columns[name] for name in names if name in columns), None)


def _columns(table: _Table, names: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    """The columns of the time, the value (None: there is one for each market) and the market."""
    value, market = _first(names, VALUE_NAMES), _first(names, MARKET_NAMES)
    if value is None and len(names) == 1:
        value = next(iter(names.values()))
    time = _time_column(table, names, (value, market))
    if value is None and (market is not None or not _is_wide(table, time)):
        shown = ", ".join(islice(table.columns, _MOST_SHOWN))
        words = f"no column of values among {shown}"
        raise ValueError(f"{words}; call it {' or '.join(VALUE_NAMES[:2])}")
    return time, value, market


def _time_column(
    table: _Table, names: Mapping[str, str], others: Sequence[str | None]
) -> str | None:
    """The column of times; pandas writes an index without a name as a column without one."""
    time = _first(names, TIME_NAMES)
    if time is not None:
        return time
    for name in table.columns:
        if name not in others and _is_time(table.columns[name][0]):
            if name in ("", "index"):
                return name
            raise ValueError(f"the column {name} seems to hold times; call it {TIME_NAMES[0]}")
    return None


def _is_wide(table: _Table, time: str | None) -> bool:
    """A time column, and one column of numbers for each market."""
    if time is None:
        return False
    first = [cells[0] for name, cells in table.columns.items() if name != time]
    return all(_text(cell) == "" or _float(cell) is not None for cell in first)


def _text(cell: Any) -> str:
    text = "" if cell is None else str(cell).strip()
    return "" if text.lower() in _EMPTY else text


def _market_id(cell: Any) -> str:
    if cell is None or str(cell) == "":
        raise ValueError("is empty")
    return str(cell)


def _number(cell: Any) -> float | None:
    number = _float(cell)
    if number is not None and isinf(number):
        raise ValueError("is not finite")
    if number is not None and not isnan(number):
        return number
    if _text(cell) != "":
        raise ValueError("is not a number")
    return None


def _float(cell: Any) -> float | None:
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_time(cell: Any) -> bool:
    number = _float(cell)
    if number is not None:
        return number > _FIRST_TIME_S
    return _DATE.search(str(cell)) is not None


def _seconds(cell: Any) -> float:
    """POSIX seconds."""
    number = _posix(cell)
    if number is None:
        try:
            return to_moment(_moment(cell)).timestamp()
        except (ValueError, OverflowError):
            number = float("nan")
    if abs(number) >= _MOST_SECONDS:
        number /= 1000
    if not abs(number) < _MOST_SECONDS:
        raise ValueError("is not a time; write ISO-8601, or seconds or milliseconds since 1970")
    return number


def _posix(cell: Any) -> float | None:
    number = _float(cell)
    if number is not None and 19e6 <= number < 21e6 and _DIGITS_OF_A_DATE.fullmatch(str(cell)):
        return None
    return number


def _moment(cell: Any) -> datetime:
    """A time that is not a number; without a zone if the cell has none."""
    if isinstance(cell, datetime):
        return cell
    return datetime.fromisoformat(str(cell).strip().replace(" UTC", "+00:00"))


def _has_no_zone(column: str, cell: Any) -> bool:
    return "utc" not in column.lower() and _posix(cell) is None and _moment(cell).tzinfo is None


def _check_range(found: PriceFile, percent: bool) -> None:
    """Percentages are read as probabilities only if ``percent`` is given."""
    if percent and found.given:
        raise ValueError("contains requests, which are sent unchanged; leave out --percent")
    markets = found.markets.values()
    values = [value for one in markets for value in one.values if value is not None]
    above = sum(value > 1 for value in values)
    if percent and not above:
        raise ValueError("no value is above 1, so these are no percentages; leave out --percent")
    if percent:
        for one in markets:
            one.values = [None if value is None else value / 100 for value in one.values]
    elif above * 2 > len(values) and min(values) >= 0 and max(values) <= 100:
        row, name = next(_rows_above_1(markets))
        raise ValueError(f"{_place(row, found.lines, found.columns[1] or name)}: {_PERCENT}")


def _rows_above_1(markets: Iterable[Market]) -> Iterator[tuple[int, str]]:
    for one in markets:
        for row, value in zip(one.rows, one.values, strict=True):
            if value is not None and value > 1:
                yield row, one.market_id
