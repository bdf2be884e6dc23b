"""The ingress app with fakes behind it, on a port of this machine: it is ready in a second."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from runner.config.loading import Config
from runner.forecast.answers import ModelOutcome
from runner.types import ModelRequest
from serve_app.http.service import LearningPort
from tests.support.bench import Bench
from tests.support.builders import make_answer, make_bands
from tests.support.fakes import FakeClock


class RealClock(FakeClock):
    def __call__(self) -> float:
        return time.monotonic()  # noqa: TID251 - browsers and commands need real time


@dataclass(frozen=True)
class Site:
    """A running site and the fakes behind it."""

    url: str
    bench: Bench


def answer_of(request: ModelRequest) -> ModelOutcome:
    """An answer of the model with as many steps and levels as requested."""
    return make_answer(bands=make_bands(request.key.horizon_steps, len(request.key.levels)))


@contextmanager
def running_site(
    config: Config | None = None, port: int = 0, learning: LearningPort | None = None
) -> Iterator[Site]:
    """A site on a port of 127.0.0.1; 0 takes a free one."""
    bench = Bench(config, clock=RealClock(), learning=learning)
    bench.model.outcome = answer_of
    settings = uvicorn.Config(bench.app, port=port, log_level="warning", lifespan="off", ws="none")
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    pause = threading.Event().wait
    assert any(server.started or pause(0.05) for _ in range(200)), "the site did not start"
    try:
        yield Site(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", bench)
    finally:
        server.should_exit = True
        thread.join(10)
