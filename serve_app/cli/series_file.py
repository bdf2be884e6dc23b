"""Reads forecast requests from a CSV or JSON file.

    CSV     a time column, a value column and, for several markets, a market column, by their usual
            names; or one column of values without a header
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
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serve_app.cli.terminal import InputError
from serve_app.client.body import request_body, to_moment

TIME_NAMES = ("ts", "time", "timestamp", "datetime", "date")
VALUE_NAMES = ("price", "value", "y", "probability", "prob", "close")
MARKET_NAMES = ("market_id", "market", "id", "symbol")

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a file, and how it is read.

    Attributes:
        ended: time of the last value, for values without times.
        points: number of newest values used per market.
    """

    name: str
    text: str
    ended: datetime
    points: int


def read_source(path: Path, points: int) -> Source:
    """Reads a file, decompressed if its name ends in .gz; ``-`` is stdin.

    Raises:
        InputError: it cannot be read.
    """
    try:
        if str(path) == "-":
            content, changed = sys.stdin.buffer.read(), os.fstat(0).st_mtime
        else:
            content, changed = path.read_bytes(), path.stat().st_mtime
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig")
    except OSError as exc:
        raise InputError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    except (UnicodeDecodeError, EOFError) as exc:
        raise InputError(f"{path}: is not text in UTF-8") from exc
    name = "stdin" if str(path) == "-" else path.name.removesuffix(".gz")
    return Source(name, text, datetime.fromtimestamp(changed, UTC), points)


def requests_of(source: Source) -> list[Body]:
    """The requests in a source, in its order.

    Raises:
        InputError: it contains no valid series.
    """
    try:
        bodies = _of_json(source) if source.text.lstrip()[:1] in ("{", "[") else _of_csv(source)
    except ValueError as exc:
        raise InputError(f"{source.name}: {exc}") from exc
    if not bodies:
        raise InputError(f"{source.name}: contains no values")
    return bodies


def _of_json(source: Source) -> list[Body]:
    try:
        value = json.loads(source.text)
    except json.JSONDecodeError as first:
        try:
            value = [json.loads(line) for line in source.text.splitlines() if line.strip()]
        except json.JSONDecodeError:
            raise ValueError(f"is not JSON (line {first.lineno}: {first.msg})") from first
    return _of_value(source, value)


def _of_value(source: Source, value: Any) -> list[Body]:
    match value:
        case {"requests": [*items]}:
            return _of_value(source, items)
        case {"y": [*_]}:
            return [dict(value)]
        case dict() if all(isinstance(series, list) for series in value.values()):
            return [_untimed(source, market, series) for market, series in value.items()]
        case [dict(), *_] if all(isinstance(item, dict) and "y" in item for item in value):
            return [dict(item) for item in value] if _whole(value) else _of_rows(source, value)
        case [dict(), *_] if all(isinstance(item, dict) for item in value):
            return _of_rows(source, value)
        case []:
            return []
        case [*numbers]:
            return [_untimed(source, _stem(source), numbers)]
    raise ValueError("is JSON, but neither values nor requests")


def _whole(items: Iterable[Mapping[str, Any]]) -> bool:
    return all(isinstance(item["y"], list) for item in items)


def _of_csv(source: Source) -> list[Body]:
    sample = source.text[:4096]
    delimiter = max(",;\t", key=sample.count)
    rows = [row for row in csv.reader(io.StringIO(source.text), delimiter=delimiter) if any(row)]
    if rows and len(rows[0]) == 1 and _is_value(rows[0][0]):
        return [_untimed(source, _stem(source), [_number(row[0], i) for i, row in enumerate(rows)])]
    if not rows:
        return []
    names = [name.strip() for name in rows[0]]
    width = len(names)
    cells = ((row + [""] * (width - len(row)))[:width] for row in rows[1:])
    return _of_table(source, names, cells)


def _of_rows(source: Source, rows: Sequence[Mapping[str, Any]]) -> list[Body]:
    names = list(rows[0])
    return _of_table(source, names, ([row.get(name) for name in names] for row in rows))


def _of_table(source: Source, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[Body]:
    value, time = _column(names, VALUE_NAMES), _column(names, TIME_NAMES)
    market = _column(names, MARKET_NAMES)
    if value is None and len(names) == 1:
        value = 0
    if value is None:
        words = f"no column of values among {', '.join(names) or 'none'}"
        raise ValueError(f"{words}; call it {' or '.join(VALUE_NAMES[:2])}")
    found: defaultdict[str, list[tuple[float, float | None]]] = defaultdict(list)
    for i, row in enumerate(rows):
        seconds = float(i) if time is None else _seconds(row[time], i)
        name = _stem(source) if market is None else str(row[market])
        found[name].append((seconds, _number(row[value], i)))
    form = _untimed_rows if time is None else _timed
    return [form(source, name, pairs) for name, pairs in found.items()]


def _timed(source: Source, market: str, pairs: list[tuple[float, float | None]]) -> Body:
    newest = sorted(dict(pairs).items())[-source.points :]  # of equal times the last row counts
    return request_body(market, [v for _, v in newest], times=[moment for moment, _ in newest])


def _untimed_rows(source: Source, market: str, pairs: list[tuple[float, float | None]]) -> Body:
    return _untimed(source, market, [value for _, value in pairs])


def _untimed(source: Source, market: str, values: list[Any]) -> Body:
    return request_body(market, values[-source.points :], as_of=source.ended)


def _column(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    lower = [name.lower() for name in names]
    return next((lower.index(name) for name in wanted if name in lower), None)


def _is_value(text: str) -> bool:
    return _float(text) is not None


def _number(value: Any, row: int) -> float | None:
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "null", "nan")):
        return None
    number = _float(value)
    if number is None:
        raise ValueError(f"row {row + 1}: a value is not a number")
    return number


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _seconds(value: Any, row: int) -> float:
    number = _float(value)
    try:
        return to_moment(value).timestamp() if number is None else number
    except ValueError as exc:
        raise ValueError(f"row {row + 1}: a time is neither ISO-8601 nor seconds") from exc


def _stem(source: Source) -> str:
    return source.name.partition(".")[0] or source.name
