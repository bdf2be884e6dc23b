"""Requests at a steady rate to every worker in turn, as a Kubernetes Service would send them."""

import asyncio
from collections.abc import Iterable
from itertools import count

from loadtest.chaos.verdict import Attempt, is_lost
from loadtest.cluster.nodes import is_up
from loadtest.cluster.sandbox import Place
from loadtest.http_client import endpoint
from loadtest.payloads import Shape, encode, windows
from loadtest.samples import Client

SHAPE = Shape(model="mock", points=96)
PORT = 8000
RETRY_AFTER_S, LOOK_AGAIN_S = 1.0, 0.3
TIMEOUT_S = 10.0  # lateness is shown, and not judged: all nodes share the cores of one machine


class Traffic:
    """Asks until it is stopped; workers that do not say they are well get nothing."""

    def __init__(self, workers: Iterable[int], per_second: float, seed: int) -> None:
        urls = [f"http://{Place(number).ip}:{PORT}" for number in workers]
        self._clients = {
            url: Client(endpoint(url, "/tsfm/forecast"), SHAPE, TIMEOUT_S) for url in urls
        }
        self._well: list[str] = []
        self._per_second = per_second
        self._seed = seed
        self._turns = count()
        self._on = True

    def now_s(self) -> float:
        """Seconds since the start; all clients began in the same moment."""
        return next(iter(self._clients.values())).now_s()

    async def find(self, limit_s: float) -> None:
        """Looks until a worker is well.

        Raises:
            RuntimeError: none was in time.
        """
        until_s = self.now_s() + limit_s
        while not self._well:
            if self.now_s() > until_s:
                raise RuntimeError(f"no worker's proxy was well within {limit_s:g} s")
            await self.look()
            await asyncio.sleep(0.0 if self._well else LOOK_AGAIN_S)

    async def look(self) -> None:
        """Which workers are well, as a readiness probe asks; the same as before if none says so."""
        answers = [asyncio.to_thread(is_up, f"{url}/-/healthz") for url in self._clients]
        well = await asyncio.gather(*answers)
        self._well = [url for url, up in zip(self._clients, well, strict=True) if up] or self._well

    async def keep_looking(self) -> None:
        """The same every second, until it is stopped."""
        while self._on:
            await asyncio.sleep(1.0)
            await self.look()

    async def ask(self) -> list[Attempt]:
        """Every attempt until ``stop``, in the order they were sent."""
        tasks = []
        began_s = self.now_s()
        for number in count():
            await asyncio.sleep(max(0.0, began_s + number / self._per_second - self.now_s()))
            if not self._on:
                break
            body = encode(next(windows(number, SHAPE, self._seed)), SHAPE)
            tasks.append(asyncio.create_task(self._attempt(body)))
        return await asyncio.gather(*tasks)

    def stop(self) -> None:
        self._on = False

    async def _attempt(self, body: bytes) -> Attempt:
        url = self._next()
        first = await self._clients[url].send(body)
        if not is_lost(first):
            return Attempt(first)
        await asyncio.sleep(RETRY_AFTER_S)
        return Attempt(first, await self._clients[self._next(but=url)].send(body))

    def _next(self, but: str | None = None) -> str:
        """The next worker that was well when last asked; not the one that has just failed."""
        urls = [url for url in self._well if url != but] or self._well
        return urls[next(self._turns) % len(urls)]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
