"""The same markets again and again at a steady rate, each with a new price every few seconds."""

import asyncio
from itertools import count

from loadtest.http_client import endpoint
from loadtest.payloads import Shape, encode, windows
from loadtest.samples import Client, Sample

SHAPE = Shape(model="mock", points=96)


class Markets:
    """Bodies of ``number`` markets in turn; ``advance`` gives each of them its next price."""

    def __init__(self, number: int, shape: Shape = SHAPE) -> None:
        self._shape = shape
        self._windows = [windows(at, shape) for at in range(number)]
        self._bodies: list[bytes] = []
        self.advance()

    def advance(self) -> None:
        self._bodies = [encode(next(window), self._shape) for window in self._windows]

    def body(self, turn: int) -> bytes:
        return self._bodies[turn % len(self._bodies)]


class Traffic:
    """Asks from ``ask`` until ``stop``, whatever becomes of the answers; nothing is asked twice."""

    def __init__(self, url: str, markets: Markets, per_second: float, advance_s: float) -> None:
        self._client = Client(endpoint(url, "/tsfm/forecast"), SHAPE)
        self._markets = markets
        self._per_second = per_second
        self._turns_each = max(1, int(per_second * advance_s))
        self._on = True

    def now_s(self) -> float:
        return self._client.now_s()

    async def ask(self) -> list[Sample]:
        tasks: list[asyncio.Task[Sample]] = []
        began_s = self.now_s()
        for turn in count():
            await asyncio.sleep(max(0.0, began_s + turn / self._per_second - self.now_s()))
            if not self._on:
                break
            if turn and turn % self._turns_each == 0:
                self._markets.advance()
            tasks.append(asyncio.create_task(self._client.send(self._markets.body(turn))))
        samples = await asyncio.gather(*tasks)
        self._client.close()
        return samples

    def stop(self) -> None:
        self._on = False
