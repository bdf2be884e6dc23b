"""The requests of the soak, and which of them are closed before the answer.

unique    a new window: the model has to run
cached    one of a few known requests
fallback  an illiquid market, which the baseline answers
batch     some unique windows, as JSON
ndjson    the same, each result as soon as it is computed
bad       a request that must be refused
"""

import asyncio
import random
from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import cycle
from statistics import median
from time import perf_counter
from typing import Any

from loadtest.drills.harness import FORECAST, FORECAST_BATCH
from loadtest.http_client import Answer, Pool, endpoint
from loadtest.payloads import (
    Shape,
    batch_body,
    batch_problem_of,
    encode,
    forecast_bodies,
    problem_of,
    read,
    read_lines,
    windows,
)

JSON, NDJSON = "application/json", "application/x-ndjson"
WEIGHTS = {"unique": 40, "cached": 30, "fallback": 10, "batch": 5, "ndjson": 5, "bad": 10}
BAD_BODIES = (
    b"",
    b"{",
    b"\xff\xfe\x00",
    b"[" * 500,
    b'{"requests": []}',
    b'{"market_id": "m", "y": [0.1, NaN]}',
    b'{"market_id": "m", "y": "' + b"9" * 5000 + b'"}',
)
TIMEOUT_S = 40.0  # over a batch's own deadline
FIRST_GUESS_S = 0.1
REMEMBERED = 50  # answers of a kind, for how long they usually take


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; an impatient caller closes it after ``leaves_after`` of the usual time."""

    kind: str
    body: bytes
    items: int = 1
    leaves_after: float | None = None  # 0 to 1; None waits

    @property
    def path(self) -> str:
        return FORECAST_BATCH if self.kind in ("batch", "ndjson") else FORECAST

    @property
    def accept(self) -> str:
        return NDJSON if self.kind == "ndjson" else JSON


@dataclass(frozen=True, slots=True)
class Mix:
    """The properties of all requests of a run."""

    shape: Shape
    markets: int
    batch_items: int
    leave_fraction: float
    seed: int = 0


def asks(mix: Mix) -> Iterator[Ask]:
    """Requests without end; the same for the same mix."""
    chance = random.Random(mix.seed)
    sources = _sources(mix, chance)
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    while True:
        ask = next(sources[chance.choices(kinds, weights)[0]])
        leaves = chance.random() < mix.leave_fraction
        yield replace(ask, leaves_after=chance.random() if leaves else None)


def _sources(mix: Mix, chance: random.Random) -> dict[str, Iterator[Ask]]:
    """Requests of each kind without end."""
    known = forecast_bodies(mix.markets, mix.shape, mix.seed + 1)
    feeds = [windows(number, mix.shape, mix.seed) for number in range(mix.markets)]
    fresh = (next(feed) for feed in cycle(feeds))
    illiquid, items = replace(mix.shape, liquidity="low"), range(mix.batch_items)

    def batches(kind: str) -> Iterator[Ask]:
        while True:
            bodies = [encode(next(fresh), mix.shape) for _ in items]
            yield Ask(kind, batch_body(bodies), len(items))

    return {
        "unique": (Ask("unique", encode(window, mix.shape)) for window in fresh),
        "cached": (Ask("cached", chance.choice(known)) for _ in cycle([None])),
        "fallback": (Ask("fallback", encode(window, illiquid)) for window in fresh),
        "batch": batches("batch"),
        "ndjson": batches("ndjson"),
        "bad": (Ask("bad", body) for body in cycle(BAD_BODIES)),
    }


@dataclass(slots=True)
class Tally:
    """Counts of the results of one kind of request."""

    valid: int = 0
    left: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    latencies_ms: "array[float]" = field(default_factory=lambda: array("f"))
    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    @property
    def invalid(self) -> int:
        return self.problems.total()

    @property
    def requests(self) -> int:
        return self.valid + self.left + self.invalid

    def usual_s(self) -> float:
        return median(self.recent_s) if self.recent_s else FIRST_GUESS_S


class Callers:
    """Sends requests of all kinds and counts the results."""

    def __init__(self, url: str, shape: Shape) -> None:
        self._url = url
        self._shape = shape
        self._pools: dict[tuple[str, str], Pool] = {}
        self.tallies: dict[str, Tally] = defaultdict(Tally)

    async def ask(self, ask: Ask) -> None:
        tally, began = self.tallies[ask.kind], perf_counter()
        patience_s = None if ask.leaves_after is None else ask.leaves_after * tally.usual_s()
        try:
            async with asyncio.timeout(patience_s) as patience:
                answer = await self._pool(ask).ask(ask.body)
        except OSError as exc:
            if patience.expired():
                tally.left += 1
            else:
                tally.problems[type(exc).__name__] += 1
            return
        took_s = perf_counter() - began
        tally.recent_s.append(took_s)
        tally.latencies_ms.append(took_s * 1e3)
        if problem := problem_with(ask, answer, self._shape):
            tally.problems[problem] += 1
        else:
            tally.valid += 1

    def _pool(self, ask: Ask) -> Pool:
        way = (ask.path, ask.accept)
        if way not in self._pools:
            self._pools[way] = Pool(endpoint(self._url, *way), TIMEOUT_S)
        return self._pools[way]

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


def problem_with(ask: Ask, answer: Answer, shape: Shape) -> str | None:
    """The fault of an answer; a bad request must get an error of the documented form."""
    content: Any = read_lines(answer.body) if ask.kind == "ndjson" else read(answer.body)
    if ask.kind == "bad":
        refused = 400 <= answer.status < 500 and _is_error(content)
        return None if refused else f"status {answer.status} for a bad request"
    if answer.status != 200:
        return f"status {answer.status}"
    if ask.kind in ("batch", "ndjson"):
        return batch_problem_of(content, ask.items, shape.horizon, shape.levels)
    return problem_of(content, shape.horizon, shape.levels)


def _is_error(content: Any) -> bool:
    error = content.get("error") if isinstance(content, Mapping) else None
    return isinstance(error, Mapping) and isinstance(error.get("code"), str)
