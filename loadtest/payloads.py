"""Seeded requests with series that look like prediction markets, and faults of their answers.

Prices sit still for most steps, move by ticks of 0.01 when they move, jump now and then, and half
of the markets live near a bound. A market depends on the seed and its number only, never on how
many others are made, and the bytes of a request on nothing else either.
"""

import math
import operator
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import orjson

FIRST_END = datetime(2026, 2, 20, 12, 0, tzinfo=UTC)
LOW, HIGH = 1, 99  # cents
_NUMBER_BITS = 16


@dataclass(frozen=True, slots=True)
class Shape:
    points: int = 288
    horizon: int = 12
    levels: tuple[float, ...] = (0.1, 0.5, 0.9)
    model: str = "chronos"
    step_minutes: int = 5
    liquidity: str | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """A market in one cycle: prices in cents, and the time of the last one."""

    market_id: str
    end: datetime
    cents: tuple[int, ...]


def windows(number: int, shape: Shape, seed: int = 0) -> Iterator[Window]:
    """A market's windows, cycle after cycle: each drops the oldest price and gets a new one."""
    prices = _prices(random.Random(f"{seed}/{number}"))
    cents = [next(prices) for _ in range(shape.points)]
    end, step = FIRST_END, timedelta(minutes=shape.step_minutes)
    while True:
        yield Window(f"m-{seed}-{number}", end, _numbered(cents, number))
        cents = [*cents[1:], next(prices)]
        end += step


def forecast_bodies(unique: int, shape: Shape, seed: int = 0) -> list[bytes]:
    """``unique`` bodies for ``POST /tsfm/forecast``, no two with the same series."""
    return [encode(next(windows(number, shape, seed)), shape) for number in range(unique)]


def batch_body(requests: Sequence[bytes]) -> bytes:
    """One body for ``POST /tsfm/forecast/batch`` out of bodies for ``POST /tsfm/forecast``."""
    return b'{"requests":[' + b",".join(requests) + b"]}"


def encode(window: Window, shape: Shape) -> bytes:
    """The body for ``POST /tsfm/forecast``."""
    head = {
        "market_id": window.market_id,
        "as_of_ts": window.end.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "freq": f"{shape.step_minutes}m",
        "horizon_steps": shape.horizon,
        "quantiles": shape.levels,
        "model": {"provider": "tollama", "model_name": shape.model},
    }
    if shape.liquidity is not None:
        head["liquidity_bucket"] = shape.liquidity
    prices = b",".join(_PRICES[cents] for cents in window.cents)
    return orjson.dumps(head)[:-1] + b',"y":[' + prices + b"]}"


_PRICES = [f"{cents / 100:.2f}".encode() for cents in range(101)]


def _prices(chance: random.Random) -> Iterator[int]:
    """An endless walk in cents: still with a chance of its own, ticks, rarely a jump."""
    near_a_bound = chance.random() < 0.5
    now = chance.randint(LOW, 6) if near_a_bound else chance.randint(7, 93)
    if chance.random() < 0.3:
        now = 100 - now
    activity = chance.choice((0.03, 0.08, 0.15, 0.4))
    while True:
        yield now
        if chance.random() < activity:
            now = min(HIGH, max(LOW, now + _move(chance)))


def _move(chance: random.Random) -> int:
    size = chance.randint(8, 30) if chance.random() < 0.02 else 1 + int(chance.expovariate(1.5))
    return size if chance.random() < 0.5 else -size


def _numbered(cents: list[int], number: int) -> tuple[int, ...]:
    """The prices with the market's number, one tick a bit, over the oldest of them.

    Still markets would otherwise share a series, and a cache that goes by content would call two
    markets one. The oldest prices matter least to a forecast.
    """
    bits = min(_NUMBER_BITS, len(cents) - 2)
    head = [
        price if not number >> bit & 1 else price + (1 if price < 50 else -1)
        for bit, price in enumerate(cents[:bits])
    ]
    return (*head, *cents[bits:])


# Answers: status 200 alone does not prove that the bands are valid


def read(body: bytes) -> Any:
    """The JSON in a body, or None where there is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def problem_of(answer: Any, horizon: int, levels: Sequence[float]) -> str | None:
    """The first thing wrong with a forecast: a level, its length, a value, or their order."""
    bands = answer.get("yhat_q") if isinstance(answer, Mapping) else None
    if not isinstance(bands, Mapping) or not isinstance(answer.get("meta"), Mapping):
        return "not a forecast"
    paths = {float(level): path for level, path in bands.items()}
    if sorted(paths) != sorted(levels):
        return "levels differ from those asked for"
    ordered = [paths[level] for level in sorted(paths)]
    if any(len(path) != horizon for path in ordered):
        return "a path is not as long as the horizon"
    if not all(_is_probability(value) for path in ordered for value in path):
        return "a value is not a probability"
    if any(any(map(operator.gt, below, above)) for below, above in pairwise(ordered)):
        return "quantiles cross"
    return None


def items_of(answer: Any, count: int) -> list[Any]:
    """The forecasts in a batch's answer; None for each where their number is wrong."""
    results = answer.get("results") if isinstance(answer, Mapping) else None
    if not isinstance(results, list) or len(results) != count:
        return [None] * count
    return [result.get("ok") for result in results]


def read_lines(body: bytes) -> Any:
    """An NDJSON batch in the form of a JSON batch; None if a line is not a result."""
    lines = [read(line) for line in body.splitlines()]
    if not all(isinstance(line, Mapping) and isinstance(line.get("index"), int) for line in lines):
        return None
    return {"results": sorted(lines, key=operator.itemgetter("index"))}


def _is_probability(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1
