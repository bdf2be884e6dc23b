"""A breaker actor that cannot be constructed takes no forecast away, in a running service."""

import itertools
import os
import re
import signal
from pathlib import Path

import httpx
import pytest
import yaml

from loadtest.service import EMBEDDED_RUNTIME, ROOT, Service, start
from loadtest.stub.process import StubProcess
from tests.integration.broken.breaker import BROKEN_WHILE
from tests.integration.conftest import Stack, until

pytestmark = pytest.mark.integration
QUICKLY = {"RAY_SERVE_DEPLOYMENT_ACTOR_HEALTH_CHECK_PERIOD_S": "0.5"}


def serve_config(folder: Path) -> Path:
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    config["applications"][0]["import_path"] = "tests.integration.broken.breaker:build"
    file = folder / "serve_config.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def kill_breaker_actor(service: Service) -> None:
    (pid,) = [p for p, line in service.processes().items() if re.match(r"ray::\S*Breaker", line)]
    os.kill(pid, signal.SIGKILL)


async def test_breaker_actor_whose_constructor_raises_takes_no_forecast_away(
    stub: StubProcess, tmp_path: Path
) -> None:
    """Serve starts no Runner meanwhile, so the baseline answers; a Runner that is there goes on."""
    broken = tmp_path / "broken"
    broken.touch()
    seeds = itertools.count(90_000)
    env = {"TSFM_TOLLAMA__BASE_URL": stub.url, BROKEN_WHILE: str(broken)} | QUICKLY

    with start(serve_config(tmp_path), env, without=[EMBEDDED_RUNTIME]) as service:
        service.wait_ready()
        async with httpx.AsyncClient(base_url=service.url, timeout=10, trust_env=False) as http:
            stack = Stack(service, stub, http)

            async def model_answers() -> bool:
                return not (await stack.meta(seed=next(seeds)))["fallback_used"]

            async def tried_again() -> bool:
                return len(broken.read_bytes()) >= 2

            await until(tried_again)
            from_the_start = [await model_answers() for _ in range(2)]
            broken.unlink()
            await until(model_answers, limit_s=60.0)
            broken.touch()
            kill_breaker_actor(service)
            await until(tried_again)
            later = [await model_answers() for _ in range(20)]

    assert from_the_start == [False] * 2
    assert later == [True] * 20
