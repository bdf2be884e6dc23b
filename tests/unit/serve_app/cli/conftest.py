"""A service on a port of its own, for commands: they talk real HTTP."""

import asyncio
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from loadtest.stub.server import Server
from runner.forecast.answers import ModelOutcome
from runner.types import ModelRequest
from tests.support.bench import Bench
from tests.support.builders import make_answer, make_bands
from tests.unit.serve_app.cli.terminal import Terminal

STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "environment": "dev",
    "uptime_s": 3725.0,
    "scope": "replica",
    "window_s": 300,
    "requests": {
        "total": 1234,
        "rate_per_s": 4.1,
        "fallback_share": 0.125,
        "cache_hit_share": 0.5,
        "p50_ms": 12.4,
        "p95_ms": None,
    },
    "history": [
        {"t": 0, "requests": 3, "fallbacks": 0, "p50_ms": 10.0, "p95_ms": 20.0},
        {"t": 10, "requests": 9, "fallbacks": 2, "p50_ms": None, "p95_ms": None},
    ],
    "fallback_reasons": {"breaker_open": 7},
    "queue": {"in_flight": 3, "waiting": 12, "shed_above": 256, "refuse_above": 768},
    "breakers": [
        {"model": "fracast-0", "state": "open", "next_probe_in_s": 42.0},
        {"model": "mock", "state": "forced_closed", "next_probe_in_s": None},
    ],
    "replicas": {"Runner": 2},
    "coverage": [
        {
            "source": "ewma",
            "segment": "all",
            "target": 0.8,
            "coverage": 0.812,
            "samples": 2100,
            "mean_width": 0.031,
            "breach_rate": 0.02,
        }
    ],
    "models": [],
}


def bands_for(request: ModelRequest) -> ModelOutcome:
    return make_answer(bands=make_bands(request.key.horizon_steps, len(request.key.levels)))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a service that lives as long as the module's tests."""
    addresses: queue.Queue[str] = queue.Queue()
    servers: queue.Queue[Server] = queue.Queue()

    async def serve() -> None:
        bench = Bench()
        bench.model.outcome = bands_for
        server = Server(bench.app, addresses.put, host="127.0.0.1", port=0)
        servers.put(server)
        await server.serve()
        await bench.http.aclose()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    yield addresses.get(timeout=20)
    servers.get().should_exit = True
    thread.join(20)


@pytest.fixture
def tsfm(url: str) -> Terminal:
    """The command, in front of that service."""
    return Terminal({"TSFM_URL": url, "TSFM_TOKEN": ""})
