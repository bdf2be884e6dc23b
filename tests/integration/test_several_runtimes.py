"""Two runtimes, one of which dies and comes back: what is lost, and who answers instead."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import httpx
import pytest

from loadtest.payloads import forecast_bodies
from loadtest.service import EMBEDDED_RUNTIME, start
from loadtest.stub.process import StubProcess, start_stub
from tests.integration.conftest import SHAPE, STUB_MODELS, assert_valid
from tests.integration.test_scale_out import scaled_out

pytestmark = pytest.mark.integration
PER_S = 20


async def answered(url: str, bodies: list[bytes]) -> Counter[str]:
    """Who answered how often, of requests at a steady rate; every answer has to be valid."""
    async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as http:

        async def ask(after_s: float, body: bytes) -> str:
            await asyncio.sleep(after_s)  # the rate of the load, not a wait for something
            answer = (await http.post("/tsfm/forecast", content=body)).json()
            assert_valid(answer)
            return str(answer["meta"]["runtime"])

        return Counter(await asyncio.gather(*(ask(i / PER_S, b) for i, b in enumerate(bodies))))


def share_of(stub: StubProcess, other: StubProcess) -> float:
    """The share of series that went to ``stub``."""
    mine, all_series = (
        sum(sum(s.stats()["series_per_call"]) for s in x) for x in ((stub,), (stub, other))
    )
    return mine / all_series


def test_dead_runtime_costs_its_share_for_a_moment_and_its_requests_move(tmp_path: Path) -> None:
    bodies = forecast_bodies(400, SHAPE, seed=11)
    with start_stub(*STUB_MODELS) as first, start_stub(*STUB_MODELS) as second:
        env = {
            "TSFM_TOLLAMA__BASE_URLS": json.dumps([first.url, second.url]),
            "TSFM_CIRCUIT_BREAKER__COOLDOWN_S": "60",
        }
        config = scaled_out(tmp_path, Runner=2)
        with start(config, env, without=[EMBEDDED_RUNTIME]) as service:
            service.wait_ready()
            asyncio.run(answered(service.url, bodies[:40]))
            first.reset()
            second.reset()
            both = asyncio.run(answered(service.url, bodies[40:200]))
            share = share_of(first, second)
            second.stop()
            first.reset()
            alone = asyncio.run(answered(service.url, bodies[200:]))
            moved = sum(first.stats()["series_per_call"])

    assert 0.3 <= share <= 0.7
    assert both["tollama"] >= 155
    assert alone["tollama"] >= 195
    assert moved >= 195
