"""The whole service in this process but for Ray: real queue, transforms, adapter, baseline."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

import httpx
from starlette.applications import Starlette

from loadtest.stub.app import Settings
from loadtest.stub.app import build_app as build_runtime
from runner.baseline.ewma_bands import BaselineRequest, baseline_bands
from runner.batching.batch_call import BatchCall, BatchItem, ItemResult
from runner.batching.dispatcher import Dispatcher
from runner.batching.item_router import ItemRouter, ReplicaRank, Runtimes, RuntimeTarget
from runner.config.loading import Config
from runner.forecast.answers import AnswerStore, ModelOutcome
from runner.forecast.forecaster import Forecaster, OutcomesReady
from runner.pacer import Pacer
from runner.tollama.client import TollamaRuntime
from runner.tollama.http import RuntimeHttp
from runner.types import Bands, ModelRequest
from serve_app.http.routes import build_app
from serve_app.http.service import Dependencies, UnderWay
from tests.support.builders import make_config, make_registry, make_request_metrics
from tests.support.fakes import FakeBoards, FakeBreakers, FakeFleet, FakeOperatorPort

Clock = Callable[[], float]
SILENCE_S = 0.05  # how long a body may pause: the service's own five seconds would be many here


class ModelHere:
    """The model port without a network: the Runner's own objects in front of the stand-in."""

    def __init__(self, config: Config, clock: Clock) -> None:
        registry, breakers = make_registry(), FakeBreakers()
        transport = httpx.ASGITransport(build_runtime(Settings(models=("*",))))
        self._http = RuntimeHttp(config.tollama, "http://stand-in", transport)
        runtime = TollamaRuntime(self._http, config.tollama, sleep=asyncio.sleep, clock=clock)
        call = BatchCall(
            runtime, breakers, str, config.tollama, config.bands, clock, lambda *late: None
        )
        dispatcher: Dispatcher[RuntimeTarget, BatchItem, ItemResult] = Dispatcher(
            lambda target, items: call(target.key, items),
            queue_of=lambda route: route.queue_name,
            batch_limit=lambda route: registry.batch_limit(
                route.key.model, config.batching.max_batch_size
            ),
            max_batch_bytes=config.tollama.max_request_bytes,
            settings=config.batching,
            lease_s=config.tollama.lease_s,
            clock=clock,
        )
        runtimes = Runtimes(1, lambda: ReplicaRank(0, 1))
        self._service = ItemRouter(dispatcher, runtimes, breakers, config.cache, clock, lambda: 0.0)

    async def forecast(self, request: ModelRequest) -> ModelOutcome:
        return await self._service.forecast(request)

    async def forecast_many(
        self, requests: Sequence[ModelRequest]
    ) -> AsyncGenerator[OutcomesReady]:
        yield list(enumerate(await asyncio.gather(*map(self.forecast, requests))))

    async def aclose(self) -> None:
        await self._http.aclose()


class BaselineHere:
    """The baseline port without a network."""

    def __init__(self, config: Config) -> None:
        self._config = config

    async def forecast(self, requests: Sequence[BaselineRequest]) -> Sequence[Bands]:
        return baseline_bands(requests, self._config.baseline, self._config.bands)


class Stack:
    """The ingress app over all of that; ``clock`` is that of the loop that will run it."""

    def __init__(self, clock: Clock) -> None:
        config = make_config(request={"body_timeout_s": SILENCE_S})
        self._model = ModelHere(config, clock)
        answers = AnswerStore(config, clock, lambda: 0.0)
        shared = (config, make_registry(), answers)
        under_way = UnderWay()
        pacer = Pacer(clock, lambda: under_way.single > 0)
        forecaster = Forecaster(*shared, self._model, BaselineHere(config), clock, pacer)
        watch = make_request_metrics(clock)
        all_of_it = (*shared, forecaster, clock, watch, FakeOperatorPort())
        service = Dependencies(*all_of_it, under_way, pacer, FakeBoards())
        self.app: Starlette = build_app(service, FakeFleet())

    async def aclose(self) -> None:
        await self._model.aclose()
