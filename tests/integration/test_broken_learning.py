"""Answers do not need the learning actor, whatever becomes of it."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from loadtest.service import EMBEDDED_RUNTIME, ROOT, Service, start
from loadtest.stub.process import StubProcess
from tests.integration.conftest import assert_valid, body, until

pytestmark = pytest.mark.integration


def config_with(build: str, folder: Path) -> Path:
    """The shipped Serve config with another way to build the application."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    config["applications"][0]["import_path"] = f"tests.integration.broken.learning:{build}"
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


async def ask_until_learning_fails_again(service: Service) -> None:
    """Every forecast is answered while exchanges fail, three times and more."""
    seeds = iter(range(10_000))
    async with httpx.AsyncClient(base_url=service.url, timeout=10, trust_env=False) as http:

        async def failed() -> bool:
            response = await http.post("/tsfm/forecast", json=body(next(seeds)))
            assert response.status_code == 200, response.text
            assert_valid(response.json())
            lines = (await http.get("/metrics")).text.splitlines()
            told = [li for li in lines if li.startswith("tsfm_learning_exchanges_total")]
            assert not any('"ok"' in line for line in told), "it was to be of no use"
            return sum(float(line.split()[-1]) for line in told) >= 3

        await until(failed, limit_s=60.0)


@pytest.mark.parametrize("build", ["raising", "dying"])
def test_forecasts_are_answered_while_the_learning_actor_fails_again_and_again(
    build: str, stub: StubProcess, tmp_path: Path
) -> None:
    env = {
        "TSFM_TOLLAMA__BASE_URL": stub.url,
        "TSFM_CONFORMAL__EXCHANGE_INTERVAL_S": "0.2",
        "RAY_SERVE_DEPLOYMENT_ACTOR_HEALTH_CHECK_PERIOD_S": "1",
    }
    stub.reset()
    with start(config_with(build, tmp_path), env, without=[EMBEDDED_RUNTIME]) as service:
        service.wait_ready()
        asyncio.run(ask_until_learning_fails_again(service))
