"""Forecasts score each other over two ingress replicas, and what was learned survives a restart."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from loadtest.service import EMBEDDED_RUNTIME, Service, start
from loadtest.stub_process import start_stub
from tests.integration.conftest import STUB_MODELS, until
from tests.integration.test_scale_out import scaled_out

pytestmark = pytest.mark.integration
BEGAN = datetime(2026, 2, 20, 12, tzinfo=UTC)
STEP = timedelta(minutes=5)
POINTS, HORIZON, STEPS = 48, 3, 15
PRICES = 0.5 + 0.05 * np.sin(np.arange(400)) + 0.001 * np.arange(400) % 0.01


@contextmanager
def learning(folder: Path, stub: str) -> Iterator[Service]:
    env = {
        "TSFM_TOLLAMA__BASE_URL": stub,
        "TSFM_CONFORMAL__ONLINE": "true",
        "TSFM_CONFORMAL__LEARNED_FILE": str(folder / "learned.json"),
        "TSFM_CONFORMAL__SAVE_INTERVAL_S": "0.2",
        "TSFM_CONFORMAL__EXCHANGE_INTERVAL_S": "0.2",
        "TSFM_CONFORMAL__MIN_SAMPLES": "9",
    }
    with start(scaled_out(folder, Ingress=2), env, without=[EMBEDDED_RUNTIME]) as service:
        service.wait_ready()
        yield service


def request(step: int, **changes: Any) -> dict[str, Any]:
    """What a caller asks at a step of time: the newest prices of its market."""
    return {
        "market_id": "m-1",
        "as_of_ts": (BEGAN + step * STEP).isoformat(),
        "horizon_steps": HORIZON,
        "y": PRICES[step : step + POINTS].tolist(),
    } | changes


async def ask(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """A forecast over a connection of its own, so that replicas take turns."""
    async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as http:
        response = await http.post("/tsfm/forecast", content=orjson.dumps(body))
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer


async def samples(url: str) -> dict[tuple[str, str], int]:
    """Outcomes by source and segment, as one of the replicas knows them."""
    async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as http:
        items = (await http.get("/tsfm/status")).json()["coverage"]
    return {(item["source"], item["segment"]): item["samples"] for item in items}


async def scored_points(url: str, expected: int) -> None:
    """Waits until every replica has heard of so many outcomes."""

    async def told() -> bool:
        known = [await samples(url) for _ in range(8)]
        return all(one.get(("fracast-0", "all")) == expected for one in known)

    await until(told)


async def ask_and_send(url: str) -> None:
    for step in range(STEPS):
        await ask(url, request(step))
        await ask(url, request(step))  # the same window again teaches nothing
    in_stream = sum(min(step, HORIZON) for step in range(STEPS))
    await scored_points(url, in_stream)

    sent = [
        {"market_id": market, "ts": (BEGAN + STEPS * STEP).isoformat(), "value": 0.5}
        for market in ("m-1", "never-asked")
    ]
    async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as http:
        response = await http.post("/tsfm/outcomes", json={"outcomes": sent})
    assert response.json() == {"accepted": 2, "scored": 1, "unknown": 1, "points": HORIZON}
    await scored_points(url, in_stream + HORIZON)


async def is_calibrated(url: str) -> bool:
    """Asked at a time whose outcome has been sent: there is nothing left to learn from it."""
    answer = await ask(url, request(STEPS, conformal=True))
    return answer["yhat_q_conformal"] is not None


def test_learning_is_shared_by_replicas_and_survives_a_restart(tmp_path: Path) -> None:
    with start_stub(*STUB_MODELS) as stub:
        with learning(tmp_path, stub.url) as service:
            asyncio.run(ask_and_send(service.url))
            assert asyncio.run(is_calibrated(service.url))
            before = asyncio.run(samples(service.url))
            saved = tmp_path / "learned.json"

            async def all_saved() -> bool:
                rolling = orjson.loads(saved.read_bytes())["rolling"] if saved.exists() else []
                points = {(one["source"], one["segment"]): one["points"] for one in rolling}
                return points == before

            asyncio.run(until(all_saved))
        with learning(tmp_path, stub.url) as service:
            asyncio.run(scored_points(service.url, before["fracast-0", "all"]))
            assert asyncio.run(samples(service.url)) == before
            assert asyncio.run(is_calibrated(service.url))
