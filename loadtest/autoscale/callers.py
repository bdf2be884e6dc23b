"""Callers that ask again as soon as they are answered; how many there are can change."""

import asyncio
from collections.abc import Iterator
from itertools import count

from loadtest.http_client import endpoint
from loadtest.payloads import Shape, encode, windows
from loadtest.samples import Client, Sample


class Callers:
    """Each with one forecast under way, of a market that nobody asked for before."""

    def __init__(self, url: str, shape: Shape, timeout_s: float) -> None:
        self._client = Client(endpoint(url, "/tsfm/forecast"), shape, timeout_s)
        self._bodies = _bodies(shape)
        self._tasks: list[asyncio.Task[None]] = []
        self._wanted = 0
        self.samples: list[Sample] = []

    def now_s(self) -> float:
        return self._client.now_s()

    def are(self, number: int) -> None:
        """So many from now on; who is too many leaves with the next answer."""
        more = range(self._wanted, number)  # who leaves is gone long before there are more again
        self._wanted = number
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks += [asyncio.create_task(self._ask(n)) for n in more]

    async def leave(self) -> None:
        self.are(0)
        await asyncio.gather(*self._tasks)
        self._client.close()

    async def _ask(self, number: int) -> None:
        while number < self._wanted:
            self.samples.append(await self._client.send(next(self._bodies)))


def _bodies(shape: Shape) -> Iterator[bytes]:
    return (encode(next(windows(number, shape)), shape) for number in count())
