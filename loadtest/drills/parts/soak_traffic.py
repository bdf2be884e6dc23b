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
import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice
from statistics import median

from loadtest.drills.harness import JSON, NDJSON, Client, Sample
from loadtest.payloads import Shape, batch_body, encode, forecast_bodies, windows

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
REMEMBERED = 50  # latencies of a kind, for how long its answers usually take


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; an impatient caller closes it after ``leaves_after`` of the usual time."""

    kind: str
    body: bytes
    items: int | None = None  # of a batch
    leaves_after: float | None = None  # 0 to 1; None waits


@dataclass(frozen=True, slots=True)
class Mix:
    shape: Shape
    markets: int
    batch_items: int
    leave_fraction: float
    seed: int = 0


def asks(mix: Mix) -> Iterator[Ask]:
    """Requests without end; the same for the same mix."""
    chance = random.Random(mix.seed)
    known = forecast_bodies(mix.markets, mix.shape, mix.seed + 1)
    feeds = [windows(number, mix.shape, mix.seed) for number in range(mix.markets)]
    fresh = (next(feed) for feed in cycle(feeds))
    illiquid, bad = replace(mix.shape, liquidity="low"), cycle(BAD_BODIES)
    while True:
        (kind,) = chance.choices([*WEIGHTS], [*WEIGHTS.values()])
        items = mix.batch_items if kind in ("batch", "ndjson") else None
        if items:
            body = batch_body([encode(window, mix.shape) for window in islice(fresh, items)])
        elif kind == "cached":
            body = chance.choice(known)
        elif kind == "bad":
            body = next(bad)
        else:
            body = encode(next(fresh), illiquid if kind == "fallback" else mix.shape)
        leaves = chance.random() < mix.leave_fraction
        yield Ask(kind, body, items, chance.random() if leaves else None)


class Callers:
    """Sends requests of all kinds; ``left`` counts those that were closed, by kind."""

    def __init__(self, url: str, shape: Shape) -> None:
        self._client = Client(url, shape, TIMEOUT_S)
        self._recent_s: defaultdict[str, deque[float]] = defaultdict(
            lambda: deque([FIRST_GUESS_S], maxlen=REMEMBERED)
        )
        self.samples: defaultdict[str, list[Sample]] = defaultdict(list)
        self.left = Counter[str]()

    async def ask(self, ask: Ask) -> None:
        recent_s = self._recent_s[ask.kind]
        patience_s = None if ask.leaves_after is None else ask.leaves_after * median(recent_s)
        accept = NDJSON if ask.kind == "ndjson" else JSON
        try:
            async with asyncio.timeout(patience_s):
                found = await self._client.send_any(ask.body, ask.kind, ask.items, accept)
        except TimeoutError:
            self.left[ask.kind] += 1
            return
        recent_s.append(found[0].latency_ms / 1e3)
        self.samples[ask.kind] += map(refusal, found) if ask.kind == "bad" else found

    def close(self) -> None:
        self._client.close()


def refusal(sample: Sample) -> Sample:
    """The sample of a bad request, which must get a 4xx of the documented form."""
    problem = sample.problem or "status 200"
    refused = re.fullmatch(r"status 4\d\d", problem)
    return replace(sample, problem=None if refused else f"{problem} for a bad request")
