"""What the callers ask, and which of them do not wait for the answer; seeded, without a clock.

unique    a window nobody asked about before: the model has to run
cached    one of a few well-known requests
fallback  an illiquid market, which the baseline answers
batch     some unique windows at once, as JSON
ndjson    the same, each result as soon as it is there
bad       what must be refused
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle

from loadtest.payloads import Shape, Window, batch_body, encode, forecast_bodies, windows

SINGLE, BATCH = "/tsfm/forecast", "/tsfm/forecast/batch"
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


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; whoever is impatient leaves after ``leaves_after`` of the usual time."""

    kind: str
    body: bytes
    items: int = 1
    leaves_after: float | None = None  # 0 to 1; None waits

    @property
    def path(self) -> str:
        return BATCH if self.kind in ("batch", "ndjson") else SINGLE

    @property
    def accept(self) -> str:
        return NDJSON if self.kind == "ndjson" else JSON


@dataclass(frozen=True, slots=True)
class Mix:
    """Who asks: few markets, so that what is kept for each of them is soon all there."""

    shape: Shape
    markets: int
    batch_items: int
    leave_fraction: float
    seed: int


def asks(mix: Mix) -> Iterator[Ask]:
    """Requests without end; the same for the same mix."""
    chance = random.Random(mix.seed)
    bodies = _Bodies(mix)
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    while True:
        ask = bodies.ask(chance.choices(kinds, weights)[0], chance)
        leaves = chance.random() < mix.leave_fraction
        yield replace(ask, leaves_after=chance.random() if leaves else None)


class _Bodies:
    def __init__(self, mix: Mix) -> None:
        self._mix = mix
        self._illiquid = replace(mix.shape, liquidity="low")
        self._known = forecast_bodies(mix.markets, mix.shape, mix.seed + 1)
        feeds = [windows(number, mix.shape, mix.seed) for number in range(mix.markets)]
        self._fresh = (next(feed) for feed in cycle(feeds))
        self._bad = cycle(BAD_BODIES)

    def ask(self, kind: str, chance: random.Random) -> Ask:
        if kind == "bad":
            return Ask(kind, next(self._bad))
        if kind == "cached":
            return Ask(kind, chance.choice(self._known))
        if kind in ("batch", "ndjson"):
            count = self._mix.batch_items
            return Ask(
                kind, batch_body([self._encode(self._mix.shape) for _ in range(count)]), count
            )
        return Ask(kind, self._encode(self._illiquid if kind == "fallback" else self._mix.shape))

    def _encode(self, shape: Shape) -> bytes:
        window: Window = next(self._fresh)
        return encode(window, shape)
