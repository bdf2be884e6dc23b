"""The ingress app under uvicorn, with ports in place of Serve: pages can be tried in a second."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvicorn

from runner.baseline.requests import BaselineRequest, baseline_bands
from runner.config.loading import Config
from runner.forecast.answers import AnswerStore, ModelOutcome
from runner.forecast.forecaster import Forecaster
from runner.pacer import Pacer
from runner.types import (
    Bands,
    BreakerState,
    FallbackReason,
    ModelAnswer,
    ModelFailure,
    ModelRequest,
)
from serve_app.http.routes import build_app
from serve_app.http.service import Dependencies, UnderWay
from tests.support.builders import make_config, make_registry, make_request_metrics
from tests.support.fakes import FakeFleet, FakeOperatorPort

PAUSE = threading.Event().wait  # nobody sets it


@dataclass
class Ports:
    """Model and baseline of a site: bands of the real baseline, the model's a little narrower."""

    config: Config
    failure: FallbackReason | None = None
    requests: list[ModelRequest] = field(default_factory=list)

    async def forecast_many(self, requests: Sequence[ModelRequest]) -> Sequence[ModelOutcome]:
        return [await self.ask(request) for request in requests]

    async def ask(self, request: ModelRequest) -> ModelOutcome:
        self.requests.append(request)
        if self.failure is not None:
            return ModelFailure(self.failure, BreakerState.OPEN, 30.0)
        key = request.key
        item = BaselineRequest(request.y_prob, key.horizon_steps, key.levels, request.transform)
        (bands,) = baseline_bands([item], self.config.baseline, self.config.bands)
        middle = bands.y_prob.mean(axis=1, keepdims=True)
        bend = 0.03 * np.sin(np.linspace(0, 3, key.horizon_steps))[:, None]
        narrower = np.clip(middle + 0.6 * (bands.y_prob - middle) + bend, 0.0, 1.0)
        return ModelAnswer(Bands(narrower), BreakerState.CLOSED, 3, 0.8, 41.5)


@dataclass(frozen=True)
class ModelPort:
    ports: Ports

    async def forecast(self, request: ModelRequest) -> ModelOutcome:
        return await self.ports.ask(request)

    async def forecast_many(self, requests: Sequence[ModelRequest]) -> Sequence[ModelOutcome]:
        return await self.ports.forecast_many(requests)


@dataclass(frozen=True)
class BaselinePort:
    config: Config

    async def forecast(self, requests: Sequence[BaselineRequest]) -> Sequence[Bands]:
        return baseline_bands(requests, self.config.baseline, self.config.bands)


@dataclass(frozen=True)
class Site:
    """A running site and what stands behind it."""

    url: str
    ports: Ports


def make_service(config: Config, ports: Ports) -> Dependencies:
    clock, model = time.monotonic, ModelPort(ports)
    registry = make_registry()
    answers = AnswerStore(config, clock, random.random)
    shared = (config, registry, answers)
    under_way = UnderWay()
    pacer = Pacer(clock, lambda: under_way.single > 0)
    forecaster = Forecaster(*shared, model, BaselinePort(config), clock, pacer)
    all_of_it = (*shared, forecaster, clock, make_request_metrics(clock), FakeOperatorPort())
    return Dependencies(*all_of_it, under_way, pacer)


@contextmanager
def running_site(config: Config | None = None, port: int = 0) -> Iterator[Site]:
    """A site on a port of 127.0.0.1; 0 takes a free one."""
    config = config or make_config()
    ports = Ports(config)
    app: Any = build_app(make_service(config, ports), FakeFleet())
    settings = uvicorn.Config(app, port=port, log_level="warning", lifespan="off", ws="none")
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    for _ in range(200):
        if server.started:
            break
        PAUSE(0.05)
    assert server.started, "the site did not start"
    try:
        yield Site(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", ports)
    finally:
        server.should_exit = True
        thread.join(10)
