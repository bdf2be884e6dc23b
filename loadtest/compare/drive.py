"""Ways to send: as fast as some connections can, at a fixed rate, and straight to the runtime."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter

import orjson

from loadtest.bench.verdict import percentile
from loadtest.http_client import Connection, endpoint

TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Drive:
    """What a run took."""

    per_second: float
    p50_ms: float
    p95_ms: float


async def closed_loop(url: str, path: str, bodies: Sequence[bytes], connections: int) -> Drive:
    """Every body once, each connection one at a time."""
    target, waiting = endpoint(url, path), iter(bodies)
    latencies: list[float] = []

    async def work() -> None:
        connection = Connection(target, TIMEOUT_S)
        try:
            for body in waiting:
                began = perf_counter()
                await _post(connection, body)
                latencies.append((perf_counter() - began) * 1e3)
        finally:
            connection.close()

    began = perf_counter()
    await asyncio.gather(*(work() for _ in range(connections)))
    return _drive(latencies, perf_counter() - began)


async def open_loop(url: str, path: str, bodies: Sequence[bytes], per_second: float) -> Drive:
    """Every body at its time, whether the ones before are answered or not; late counts as slow."""
    target, idle = endpoint(url, path), list[Connection]()
    latencies: list[float] = []
    began = perf_counter()

    async def one(body: bytes, due: float) -> None:
        connection = idle.pop() if idle else Connection(target, TIMEOUT_S)
        await _post(connection, body)
        latencies.append((perf_counter() - due) * 1e3)
        idle.append(connection)

    tasks = []
    for number, body in enumerate(bodies):
        due = began + number / per_second
        await asyncio.sleep(max(0.0, due - perf_counter()))
        tasks.append(asyncio.create_task(one(body, due)))
    await asyncio.gather(*tasks)
    for connection in idle:
        connection.close()
    return _drive(latencies, perf_counter() - began)


def runtime_call(series: int, points: int, horizon: int, model: str) -> bytes:
    """One call of tollama's ``/v1/forecast`` with ``series`` series in log-odds."""
    end = datetime(2026, 2, 20, 12, tzinfo=UTC)
    times = [
        (end - timedelta(minutes=5 * (points - 1 - i))).strftime("%Y-%m-%dT%H:%M:%SZ")
        for i in range(points)
    ]
    return orjson.dumps(
        {
            "model": model,
            "horizon": horizon,
            "quantiles": [0.1, 0.5, 0.9],
            "series": [
                {
                    "id": f"s{s}",
                    "freq": "5min",
                    "timestamps": times,
                    "target": [((s * 7 + i * 3) % 50) / 50 - 0.5 for i in range(points)],
                }
                for s in range(series)
            ],
        }
    )


async def _post(connection: Connection, body: bytes) -> None:
    status, content = await connection.post(body)
    if status != 200:
        raise RuntimeError(f"status {status}: {content[:200]!r}")


def _drive(latencies: list[float], elapsed_s: float) -> Drive:
    ascending = sorted(latencies)
    per_second = len(latencies) / elapsed_s
    return Drive(per_second, percentile(ascending, 50), percentile(ascending, 95))
