"""A real local Serve with the stand-in runtime behind it: one of each for the whole run."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import yaml
from xdist.scheduler import LoadScopeScheduling

from loadtest.payloads import Shape, encode, windows
from loadtest.service import EMBEDDED_RUNTIME, ROOT, Service, start
from loadtest.stub.process import StubProcess
from runner.calibration.state import ConformalState, StepFactors, save_state
from tests.integration.collector import Collector, start_collector

SHAPE = Shape(points=64)
COOLDOWN_S = 1.0
PATIENT = {  # longer than a busy machine delays a call, which alone is no reason for a fallback
    "TSFM_REQUEST__DEADLINE_MS": "20000",
    "TSFM_TOLLAMA__TIMEOUT_S": "8",
    "TSFM_CIRCUIT_BREAKER__PROBE_LEASE_S": "17",
}
FITTED = ConformalState(
    0.8,
    {
        "fracast-0": {
            "all": StepFactors(np.linspace([0.5, 1.5], [0.8, 1.1], 12), np.full(12, 500)),
            "width=0.1..1": StepFactors(np.linspace([1.3, 0.7], [1.8, 0.9], 12), np.full(12, 40)),
        }
    },
)
STUB_MODELS = ("--model", "mock", "--model", "fracast-0", "--model", "sundial-base-128m")


def body(seed: int, **changes: Any) -> dict[str, Any]:
    """A request for a market that no other seed has."""
    market = next(windows(seed % 2**16, SHAPE, seed))  # its number makes a still series its own
    request: dict[str, Any] = orjson.loads(encode(market, SHAPE))
    return {k: v for k, v in (request | changes).items() if v is not ...}


@dataclass(frozen=True, slots=True)
class Stack:
    """A running service and the runtime it calls."""

    service: Service
    stub: StubProcess
    http: httpx.AsyncClient

    async def forecast(self, request: dict[str, Any]) -> dict[str, Any]:
        response = await self.http.post("/tsfm/forecast", json=request)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        assert_valid(answer)
        return answer

    async def meta(self, seed: int, **changes: Any) -> dict[str, Any]:
        meta: dict[str, Any] = (await self.forecast(body(seed, **changes)))["meta"]
        return meta


def shipped_config(folder: Path, replicas: Mapping[str, int] | None = None, **changes: str) -> Path:
    """The shipped Serve config with changes, and with fixed numbers of replicas if any is given."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    application = config["applications"][0]
    application.update(changes)
    if replicas:
        for deployment in application["deployments"]:
            deployment.pop("autoscaling_config", None)
            deployment["num_replicas"] = replicas.get(deployment["name"], 1)
            deployment["ray_actor_options"] = {"num_cpus": 0.1}
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def assert_valid(answer: dict[str, Any]) -> None:
    """Every level, every step, finite, in [0, 1], ordered."""
    paths = [answer["yhat_q"][str(level)] for level in answer["quantiles"]]
    assert [len(path) for path in paths] == [answer["horizon_steps"]] * len(paths)
    for step in zip(*paths, strict=True):
        assert list(step) == sorted(step)
        assert all(0.0 <= value <= 1.0 for value in step)


def client(url: str, timeout_s: float = 30.0) -> httpx.AsyncClient:
    """A client for plain HTTP: without verify=False each one costs 40 ms for certificates."""
    return httpx.AsyncClient(base_url=url, timeout=timeout_s, trust_env=False, verify=False)


async def until(holds: Callable[[], Awaitable[bool]], limit_s: float = 60.0) -> None:
    """Polls a condition; fails when it does not come true in time."""
    clock = asyncio.get_running_loop().time
    end = clock() + limit_s
    while not await holds():
        assert clock() < end, "the condition did not come true in time"
        await asyncio.sleep(0.05)


class ThreeParts(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Three processes: tests that share a service stay together, the longest test is alone."""

    def _split_scope(self, nodeid: str) -> str:
        folder, file = nodeid.split("::")[0].split("/")[-2:]
        return file if file == "test_embedded.py" else folder


def pytest_xdist_make_scheduler(config: Any, log: Any) -> ThreeParts:
    return ThreeParts(config, log)


@pytest.fixture(scope="session")
def stub() -> Iterator[StubProcess]:
    with StubProcess(*STUB_MODELS) as stub:
        yield stub


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    with start_collector() as collector:
        yield collector


@pytest.fixture(scope="session")
def service(
    stub: StubProcess, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    state_file = tmp_path_factory.mktemp("fitted") / "state.json"
    save_state(state_file, FITTED)
    env = {
        "TSFM_TOLLAMA__BASE_URL": stub.url,
        **PATIENT,
        "TSFM_CIRCUIT_BREAKER__COOLDOWN_S": str(COOLDOWN_S),
        "TSFM_CIRCUIT_BREAKER__COOLDOWN_GROWTH": "1",
        "TSFM_CONFORMAL__STATE_FILE": str(state_file),
        "TSFM_TOLLAMA__WARM_MODELS": '["sundial"]',  # no test asks for it
        "TSFM_CONFORMAL__ONLINE": "false",  # a backtest compares answers with what was fitted
        "TSFM_OBSERVABILITY__TRACES": "otlp",
        "TSFM_OBSERVABILITY__TRACES_ENDPOINT": collector.url,
        "TSFM_OBSERVABILITY__TRACES_SHARE": "0",  # of callers who ask for it alone
        "OTEL_BSP_SCHEDULE_DELAY": "200",  # ms; 5,000 without it
    }
    service = start(env=env, without=[EMBEDDED_RUNTIME])
    try:
        service.wait_ready()
        yield service
    finally:
        left = service.stop()
    assert left == [], "processes were left behind"


@pytest.fixture
async def stack(service: Service, stub: StubProcess) -> AsyncIterator[Stack]:
    """The stack with a runtime that works and a breaker that is closed and knows no failures."""
    stub.control(ms_per_call=20, ms_per_series=0.5)
    stub.reset()
    async with client(service.url) as http:
        stack = Stack(service, stub, http)
        await http.post("/tsfm/admin/breakers/fracast-0", json={"action": "reset"})

        async def model_answers() -> bool:
            return not (await stack.meta(seed=time.monotonic_ns()))["fallback_used"]

        await until(model_answers)
        stub.reset()
        yield stack
