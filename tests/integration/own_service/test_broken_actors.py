"""Actors that cannot work take no forecast away, in a service in Serve's plain mode."""

import itertools
import os
import re
import signal
from pathlib import Path

import pytest

from loadtest.service import EMBEDDED_RUNTIME, Service, start
from loadtest.stub.process import StubProcess
from tests.integration.conftest import (
    PATIENT,
    Stack,
    assert_valid,
    body,
    client,
    shipped_config,
    until,
)
from tests.integration.own_service.broken import BROKEN_WHILE

pytestmark = pytest.mark.integration
ENV = {
    **PATIENT,
    "TSFM_CONFORMAL__EXCHANGE_INTERVAL_S": "0.2",
    "RAY_SERVE_DEPLOYMENT_ACTOR_HEALTH_CHECK_PERIOD_S": "0.5",
}


def kill_breaker_actor(service: Service) -> None:
    (pid,) = [p for p, line in service.processes().items() if re.match(r"ray::\S*Breaker", line)]
    os.kill(pid, signal.SIGKILL)


async def failed_exchanges(stack: Stack) -> float:
    """Number of exchanges with the learning actor; none may succeed."""
    text = (await stack.http.get("/metrics")).text
    lines = re.findall(r'^tsfm_learning_exchanges_total{.*result="(\w+)".*} (\S+)$', text, re.M)
    assert "ok" not in dict(lines)
    return sum(float(number) for _, number in lines)


async def test_broken_actors_take_no_forecast_away(stub: StubProcess, tmp_path: Path) -> None:
    """Serve starts no Runner meanwhile, so the baseline answers; a Runner that is there goes on."""
    file = tmp_path / "broken"
    file.touch()
    seeds = itertools.count(90_000)
    config = shipped_config(tmp_path, import_path="tests.integration.own_service.broken:build")
    env = {"TSFM_TOLLAMA__BASE_URL": stub.url, BROKEN_WHILE: str(file)} | ENV
    stub.reset()

    how = {"high_throughput": False, "serve_run": True}
    with start(config, env, without=[EMBEDDED_RUNTIME], **how) as service:
        service.wait_ready()
        async with client(service.url) as http:
            stack = Stack(service, stub, http)

            async def fallback_reason(deadline_ms: float) -> str | None:
                meta = await stack.meta(seed=next(seeds), deadline_ms=deadline_ms)
                reason: str | None = meta["fallback_reason"]
                return reason

            async def model_answers() -> bool:
                return await fallback_reason(deadline_ms=1500) is None

            async def breaker_failed() -> bool:
                return len(file.read_bytes()) >= 2

            async def learning_fails_again() -> None:
                before = await failed_exchanges(stack)

                async def failed() -> bool:
                    await model_answers()
                    return await failed_exchanges(stack) >= before + 3

                await until(failed)

            await until(breaker_failed)
            from_the_start = [await model_answers() for _ in range(2)]
            await learning_fails_again()
            file.unlink()
            await until(model_answers)
            await learning_fails_again()
            file.touch()
            kill_breaker_actor(service)
            await until(breaker_failed)
            later = [await fallback_reason(deadline_ms=8000) for _ in range(20)]
            too_short = {"x-request-timeout-seconds": "0.0001"}
            in_time = await http.post("/tsfm/forecast", json=body(1), headers=too_short)
            routes = await http.get("/-/routes")
            left = service.stop()

    assert from_the_start == [False] * 2
    assert later == [None] * 20
    assert_valid(in_time.json())
    assert routes.status_code == 404
    assert left == []
