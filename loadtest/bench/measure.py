"""Sends the requests: a fixed number of connections, each with one request under way."""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter

from loadtest.answers import read
from loadtest.bench.verdict import Outcome, judge
from loadtest.http_client import Connection, endpoint
from loadtest.payloads import Shape

TIMEOUT_S = 30.0
Progress = Callable[[int, int, float], None]


async def run(
    url: str, bodies: Sequence[bytes], connections: int, shape: Shape, progress: Progress
) -> tuple[list[Outcome], float]:
    """Posts every body once; the outcomes in the order they came, and the seconds they took."""
    target = endpoint(url, "/tsfm/forecast")
    waiting = iter(bodies)
    outcomes: list[Outcome] = []

    async def work() -> None:
        connection = Connection(target, TIMEOUT_S)
        for body in waiting:
            outcomes.append(await _one(connection, body, shape))
        connection.close()

    started = perf_counter()
    watcher = asyncio.create_task(_watch(outcomes, len(bodies), started, progress))
    await asyncio.gather(*(work() for _ in range(min(connections, len(bodies)))))
    elapsed = perf_counter() - started
    watcher.cancel()
    return outcomes, elapsed


async def _one(connection: Connection, body: bytes, shape: Shape) -> Outcome:
    started = perf_counter()
    try:
        status, content = await connection.post(body)
    except OSError as exc:
        return Outcome((perf_counter() - started) * 1000, type(exc).__name__)
    latency_ms = (perf_counter() - started) * 1000
    return judge(status, read(content), latency_ms, shape.horizon, shape.levels)


async def _watch(outcomes: list[Outcome], total: int, started: float, progress: Progress) -> None:
    while True:
        await asyncio.sleep(1)
        progress(len(outcomes), total, perf_counter() - started)
