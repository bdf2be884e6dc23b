"""A service on a port of its own, for commands: they talk real HTTP."""

import asyncio
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner

from loadtest.stub.server import Server
from runner.forecast.answers import ModelOutcome
from runner.types import ModelRequest
from serve_app.cli import app
from tests.support.bench import Bench
from tests.support.builders import make_answer, make_bands


@dataclass(frozen=True, slots=True)
class Terminal:
    """Runs the command with these variables."""

    variables: dict[str, str]

    def __call__(self, *words: object, stdin: str | None = None) -> Any:
        return CliRunner().invoke(app, [str(w) for w in words], input=stdin, env=self.variables)


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
