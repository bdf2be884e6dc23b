"""Several ingress replicas: the cache must be worth as much as with one."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from loadtest.payloads import forecast_bodies
from loadtest.service import EMBEDDED_RUNTIME, ROOT, start
from loadtest.stub_process import start_stub
from tests.integration.conftest import SHAPE, STUB_MODELS

pytestmark = pytest.mark.integration
MARKETS, ASKED = 60, 6


def scaled_out(folder: Path, **replicas: int) -> Path:
    """The shipped Serve config with fixed numbers of replicas."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    for deployment in config["applications"][0]["deployments"]:
        deployment.pop("autoscaling_config", None)
        deployment["num_replicas"] = replicas.get(deployment["name"], 1)
        deployment["ray_actor_options"] = {"num_cpus": 0.1}
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


async def hits(url: str, bodies: list[bytes]) -> int:
    """How many answers came from a cache; each request on a connection of its own."""
    found = 0
    for body in bodies:
        async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as http:
            meta = (await http.post("/tsfm/forecast", content=body)).json()["meta"]
            assert meta["fallback_used"] is False
            found += meta["cache_hit"]
    return found


def test_four_ingresses_hit_as_often_as_one(tmp_path: Path) -> None:
    bodies = forecast_bodies(MARKETS, SHAPE, seed=5)
    with start_stub(*STUB_MODELS) as stub:
        env = {"TSFM_TOLLAMA__BASE_URL": stub.url, "TSFM_REQUEST__DEADLINE_MS": "5000"}
        config = scaled_out(tmp_path, Ingress=4)
        with start(config, env, without=[EMBEDDED_RUNTIME]) as service:
            service.wait_ready()
            asyncio.run(hits(service.url, forecast_bodies(8, SHAPE, seed=6)))
            stub.reset()
            found = asyncio.run(hits(service.url, bodies * ASKED))
            series = sum(stub.stats()["series_per_call"])

    best = MARKETS * (ASKED - 1)
    assert found >= 0.95 * best
    assert series <= MARKETS + 0.05 * best
