"""Several ingress replicas and runtimes: caches, learning, and a runtime that dies."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from loadtest.payloads import forecast_bodies
from loadtest.service import EMBEDDED_RUNTIME, Service, start
from loadtest.stub.process import StubProcess
from tests.integration.conftest import (
    PATIENT,
    SHAPE,
    STUB_MODELS,
    assert_valid,
    client,
    shipped_config,
    until,
)

pytestmark = pytest.mark.integration
REPLICAS = 2
PER_S = 20
MARKETS, ASKED = 40, 5
BEGAN = datetime(2026, 2, 20, 12, tzinfo=UTC)
STEP = timedelta(minutes=5)
POINTS, HORIZON, STEPS = 48, 3, 15
PRICES = 0.5 + 0.05 * np.sin(np.arange(400)) + 0.001 * np.arange(400) % 0.01
LEARNED = "learned.json"
ACTOR = "LearningActor"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("several")


@pytest.fixture(scope="module")
def runtimes() -> Iterator[tuple[StubProcess, StubProcess]]:
    speed = ("--ms-per-call", "20", "--ms-per-series", "0.5")
    with StubProcess(*STUB_MODELS, *speed) as one, StubProcess(*STUB_MODELS, *speed) as other:
        yield one, other


@pytest.fixture(scope="module")
def several(runtimes: tuple[StubProcess, StubProcess], folder: Path) -> Iterator[Service]:
    """A service with several ingress replicas and runtimes, which learns quickly."""
    env = {
        "TSFM_TOLLAMA__BASE_URLS": json.dumps([stub.url for stub in runtimes]),
        "TSFM_CIRCUIT_BREAKER__COOLDOWN_S": "60",
        **PATIENT,
        "TSFM_CONFORMAL__LEARNED_FILE": str(folder / LEARNED),
        "TSFM_CONFORMAL__SAVE_INTERVAL_S": "0.2",
        "TSFM_CONFORMAL__EXCHANGE_INTERVAL_S": "0.2",
        "TSFM_CONFORMAL__MIN_SAMPLES": "9",
        "RAY_SERVE_DEPLOYMENT_ACTOR_HEALTH_CHECK_PERIOD_S": "1",
    }
    config = shipped_config(folder, {"Ingress": REPLICAS})
    with start(config, env, without=[EMBEDDED_RUNTIME]) as service:
        service.wait_ready()
        yield service


async def hits(url: str, bodies: list[bytes]) -> int:
    """How many answers came from a cache; each request on a connection of its own."""
    found = 0
    for body in bodies:
        meta = (await ask(url, body))["meta"]
        assert meta["fallback_used"] is False
        found += meta["cache_hit"]
    return found


async def ask(url: str, body: bytes) -> dict[str, Any]:
    """A forecast over a connection of its own, so that replicas take turns."""
    async with client(url) as http:
        response = await http.post("/tsfm/forecast", content=body)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer


def request(step: int, **changes: Any) -> bytes:
    """What a caller asks at a step of time: the newest prices of its market."""
    values = {
        "market_id": "m-1",
        "as_of_ts": (BEGAN + step * STEP).isoformat(),
        "horizon_steps": HORIZON,
        "y": PRICES[step : step + POINTS].tolist(),
    }
    return orjson.dumps(values | changes)


async def samples(url: str) -> dict[tuple[str, str], int]:
    """Outcomes by source and segment, as one of the replicas knows them."""
    async with client(url) as http:
        items = (await http.get("/tsfm/status")).json()["coverage"]
    return {(item["source"], item["segment"]): item["samples"] for item in items}


async def scored_points(url: str, expected: int) -> None:
    """Waits until every replica has heard of so many outcomes."""

    async def told() -> bool:
        known = [await samples(url) for _ in range(4 * REPLICAS)]
        return all(one.get(("fracast-0", "all")) == expected for one in known)

    await until(told)


async def ask_everybody(url: str, step: int) -> None:
    """The same window of every replica: what comes again teaches nothing."""
    for _ in range(REPLICAS):
        await ask(url, request(step))


async def ask_and_send(url: str) -> int:
    """Forecasts and their outcomes, in the stream and by themselves; how many there are."""
    for step in range(STEPS):
        await ask_everybody(url, step)
    in_stream = sum(min(step, HORIZON) for step in range(STEPS))
    await scored_points(url, in_stream)

    sent = [
        {"market_id": market, "ts": (BEGAN + STEPS * STEP).isoformat(), "value": 0.5}
        for market in ("m-1", "never-asked")
    ]
    async with client(url) as http:
        response = await http.post("/tsfm/outcomes", json={"outcomes": sent})
    assert response.json() == {"accepted": 2, "scored": 1, "unknown": 1, "points": HORIZON}
    await scored_points(url, in_stream + HORIZON)
    return in_stream + HORIZON


async def saved(file: Path, points: int) -> None:
    """Waits until a file holds so many outcomes."""

    def points_there() -> list[int]:
        rolling = orjson.loads(file.read_bytes())["rolling"] if file.exists() else []
        return [one["points"] for one in rolling if one["segment"] == "all"]

    async def all_there() -> bool:
        return points in points_there()

    await until(all_there)


async def kill_the_actor(service: Service) -> None:
    """Ends the process that learns, as a crash would; Serve starts another one."""
    [pid] = [pid for pid, name in service.processes().items() if ACTOR in name]
    os.kill(pid, signal.SIGKILL)

    async def another() -> bool:
        found = service.processes()
        return pid not in found and any(ACTOR in name for name in found.values())

    await until(another)


def test_several_ingresses_hit_as_often_as_one(
    several: Service, runtimes: tuple[StubProcess, StubProcess]
) -> None:
    bodies = forecast_bodies(MARKETS, SHAPE, seed=5)
    asyncio.run(hits(several.url, forecast_bodies(8, SHAPE, seed=6)))
    for stub in runtimes:
        stub.reset()

    found = asyncio.run(hits(several.url, bodies * ASKED))

    best = MARKETS * (ASKED - 1)
    assert found >= 0.95 * best
    assert sum(map(series, runtimes)) <= MARKETS + 0.05 * best


def test_learning_is_shared_by_replicas_and_survives_a_crash(
    several: Service, folder: Path
) -> None:
    async def main() -> dict[str, Any]:
        points = await ask_and_send(several.url)
        await saved(folder / LEARNED, points)
        await kill_the_actor(several)
        for step in (STEPS + 1, STEPS + 2):  # one more outcome, on top of what was saved
            await ask_everybody(several.url, step)
        await scored_points(several.url, points + 1)
        return await ask(several.url, request(STEPS + 2, conformal=True))

    answer = asyncio.run(main())

    assert answer["yhat_q_conformal"] is not None


async def by_runtime(url: str, bodies: list[bytes]) -> Counter[str]:
    """Number of answers by runtime, of requests at a steady rate; every answer must be valid."""
    async with client(url) as http:

        async def forecast(after_s: float, body: bytes) -> str:
            await asyncio.sleep(after_s)  # the rate of the load
            answer = (await http.post("/tsfm/forecast", content=body)).json()
            assert_valid(answer)
            return str(answer["meta"]["runtime"])

        tasks = (forecast(number / PER_S, body) for number, body in enumerate(bodies))
        return Counter(await asyncio.gather(*tasks))


def series(stub: StubProcess) -> int:
    """Number of series that the runtime was sent."""
    return sum(stub.stats()["series_per_call"])


def test_requests_of_a_dead_runtime_move_to_the_other(
    several: Service, runtimes: tuple[StubProcess, StubProcess]
) -> None:
    first, second = runtimes
    bodies = forecast_bodies(240, SHAPE, seed=11)
    asyncio.run(by_runtime(several.url, bodies[:40]))
    first.reset()
    second.reset()
    both = asyncio.run(by_runtime(several.url, bodies[40:120]))
    share = series(first) / (series(first) + series(second))
    second.stop()
    first.reset()
    alone = asyncio.run(by_runtime(several.url, bodies[120:]))

    assert 0.3 <= share <= 0.7
    assert both["tollama"] >= 77
    assert alone["tollama"] >= 115
    assert series(first) >= 115
