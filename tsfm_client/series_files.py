"""Reads forecast requests from a CSV or JSON file.

    CSV     a time column, a value column and, for several markets, a market column, by their usual
            names, with or without a unit in brackets; or one column of values without a header
    JSON    a list of numbers; numbers by market id; a request, a list of requests or a batch, as
            the API takes them; a list of rows like those of a CSV; one of these a line (JSON lines)

Times are ISO-8601 or POSIX seconds. The last of values without times is at the time of the
file's last change.
"""

import csv
import gzip
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tsfm_client.body import request_body, to_moment

TIME_NAMES = ("ts", "time", "timestamp", "datetime", "date")
VALUE_NAMES = ("price", "value", "y", "probability", "prob", "close")
MARKET_NAMES = ("market_id", "market", "id", "symbol")
FIRST_TIME_S = 1e9  # September 2001; larger numbers are times, not prices
_UNIT = re.compile(r"\s*\([^)]*\)$")  # as in "Date (UTC)"
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")

Body = dict[str, Any]
Row = tuple[str, Any, Any]  # market, time or None, value


class SeriesFileError(ValueError):
    """A file that cannot be read; the text names it and the reason."""


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a file, and how it is read."""

    name: str
    text: str
    ended: datetime  # time of the last value, for values without times
    points: int  # number of newest values used per market

    @property
    def market(self) -> str:
        """The market of values without one: the file's name."""
        return self.name.partition(".")[0] or self.name


def read_source(path: Path, points: int) -> Source:
    """Reads a file, decompressed if its name ends in .gz; ``-`` is stdin.

    Raises:
        SeriesFileError: it cannot be read.
    """
    try:
        if str(path) == "-":
            content, changed = sys.stdin.buffer.read(), os.fstat(0).st_mtime
        else:
            content, changed = path.read_bytes(), path.stat().st_mtime
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig")
    except OSError as exc:
        raise SeriesFileError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    except (UnicodeDecodeError, EOFError) as exc:
        raise SeriesFileError(f"{path}: is not text in UTF-8") from exc
    name = "stdin" if str(path) == "-" else path.name.removesuffix(".gz")
    return Source(name, text, datetime.fromtimestamp(changed, UTC), points)


def requests_of(source: Source) -> list[Body]:
    """The requests in a source, in its order.

    Raises:
        SeriesFileError: it contains no valid series.
    """
    try:
        bodies = _of_json(source) if source.text.lstrip()[:1] in ("{", "[") else _of_csv(source)
    except ValueError as exc:
        raise SeriesFileError(f"{source.name}: {exc}") from exc
    if not bodies:
        raise SeriesFileError(f"{source.name}: contains no values")
    return bodies


def _of_json(source: Source) -> list[Body]:
    value: Any = _json(source.text)
    if isinstance(value, dict):
        value = value.get("requests", [value] if isinstance(value.get("y"), list) else value)
    match value:
        case dict() if all(isinstance(series, list) for series in value.values()):
            return _bodies(source, ((name, None, v) for name in value for v in value[name]))
        case [dict(), *_] if all(isinstance(item, dict) for item in value):
            if all(isinstance(item.get("y"), list) for item in value):
                return list(value)
            return _bodies(source, _rows(source, value))
        case list():
            return _bodies(source, ((source.market, None, v) for v in value))
    raise ValueError("is JSON, but neither values nor requests")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as first:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError:
            raise ValueError(f"is not JSON (line {first.lineno}: {first.msg})") from first


def _of_csv(source: Source) -> list[Body]:
    text = source.text.strip()
    delimiter = max(",;\t", key=text[:4096].count)
    names = VALUE_NAMES[:1] if _float(text.partition("\n")[0]) is not None else None
    lines = csv.DictReader(io.StringIO(text), names, delimiter=delimiter)
    return _bodies(source, _rows(source, [line for line in lines if any(line.values())]))


def _rows(source: Source, lines: Sequence[Mapping[str, Any]]) -> Iterable[Row]:
    """The lines of a table; their columns are those of the first one."""
    if not lines:
        return
    columns = {_UNIT.sub("", name.strip().lower()): name for name in lines[0] if name}
    value, time, market = (
        next((columns[name] for name in names if name in columns), None)
        for names in (VALUE_NAMES, TIME_NAMES, MARKET_NAMES)
    )
    if value is None and len(columns) == 1:
        (value,) = columns.values()
    if value is None:
        words = f"no column of values among {', '.join(columns) or 'none'}"
        raise ValueError(f"{words}; call it {' or '.join(VALUE_NAMES[:2])}")
    for name in set(columns.values()) - {value, market} if time is None else ():
        if _is_time(lines[0][name]):
            raise ValueError(f"the column {name} seems to hold times; call it {TIME_NAMES[0]}")
    for line in lines:
        name = source.market if market is None else str(line.get(market))
        moment = None if time is None else str(line.get(time))
        yield name, moment, line.get(value)


def _is_time(value: Any) -> bool:
    number = _float(value)
    if number is not None:
        return number > FIRST_TIME_S
    return _DATE.search(str(value)) is not None


def _bodies(source: Source, rows: Iterable[Row]) -> list[Body]:
    markets: dict[str, list[tuple[float | None, float | None]]] = {}
    for number, (market, time, value) in enumerate(rows, 1):
        pair = (_seconds(time, number), _number(value, number))
        markets.setdefault(market, []).append(pair)
    return [_body(source, market, pairs) for market, pairs in markets.items()]


def _body(source: Source, market: str, pairs: list[tuple[Any, float | None]]) -> Body:
    if pairs[0][0] is None:
        values = [value for _, value in pairs[-source.points :]]
        return request_body(market, values, as_of=source.ended)
    newest = sorted(dict(pairs).items())[-source.points :]  # of equal times the last row counts
    return request_body(market, [v for _, v in newest], times=[moment for moment, _ in newest])


def _number(value: Any, row: int) -> float | None:
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "null", "nan")):
        return None
    number = _float(value)
    if number is None:
        raise ValueError(f"row {row}: a value is not a number")
    return number


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _seconds(value: Any, row: int) -> float | None:
    if value is None:
        return None
    number = _float(value)
    try:
        return to_moment(value).timestamp() if number is None else number
    except ValueError as exc:
        raise ValueError(f"row {row}: a time is neither ISO-8601 nor seconds") from exc
