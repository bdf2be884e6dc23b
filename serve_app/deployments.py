"""The Ray classes: a few lines each, that build runner's objects and hand in the real clock.

Their decisions live in `runner`; what a deployment adds is a place to run.
"""

import asyncio
import gc
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import ray
from opentelemetry.trace import Tracer
from ray import serve
from ray.serve.config import DeploymentActorConfig
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette

from runner.answers import Answers, Outcome
from runner.batch_call import BatchCall, BreakersOfRuntime, Served
from runner.breaker_board import BreakerBoard, Command
from runner.breaker_sync import ReplicaBoard
from runner.bulk import BulkForecaster
from runner.config import Config
from runner.conformal_section import ConformalSection
from runner.conformal_state import ConformalState
from runner.coverage import CoverageReport
from runner.dispatcher import Dispatcher
from runner.fallback import BaselineRequest, baseline_bands
from runner.forecaster import BaselinePort, Fallback, Forecaster
from runner.model_service import ModelService
from runner.models import Registry
from runner.notes import Notes
from runner.runtimes import Place, Route, RoutedCalls, Runtimes
from runner.sections import CircuitBreakerSection
from runner.tollama import TollamaRuntime
from runner.tollama_http import RuntimeHttp
from runner.types import Bands, BreakerState, ModelRequest
from serve_app.breaker_actor import BreakerActor
from serve_app.breaker_client import RayBreakerPort, SharedBreakers
from serve_app.fleet import RayFleet
from serve_app.groups import Desk, Group
from serve_app.handles import BaselineHandle, RunnerHandle, warm_up
from serve_app.ingress import build_app
from serve_app.learning_actor import LearningActor
from serve_app.learning_client import Learning, RayLearningPort
from serve_app.logs import set_up_logging
from serve_app.ports import ModelPorts
from serve_app.pump import Pump
from serve_app.ray_metrics import RaySink
from serve_app.recorder import Recorder
from serve_app.request_log import RequestLog
from serve_app.runner_watch import Call, Queues, WatchedCall
from serve_app.scaling import demand
from serve_app.service import Service
from serve_app.shared_calls import Answers as Parts
from serve_app.tracer import configured_tracer
from serve_app.tracing import TracedBaseline, TracedCall, TracedItems, TracedModel, forward
from serve_app.traffic import Traffic
from serve_app.watch import Watch

BREAKER = "breaker"
LEARNING = "learning"
# Between two looks for garbage. Python's 700 are a few requests, and hardly anything of ours is a
# cycle: the looks took a fifth of the ingress's CPU, more the more answers it kept.
NEW_OBJECTS = 50_000


class ClockedBreakerActor(BreakerActor):
    """The breaker actor with the clocks of the process it lives in."""

    def __init__(self, settings: CircuitBreakerSection | Mapping[str, Any]) -> None:
        super().__init__(settings, time.monotonic, time.time)


def breaker_actor(config: Config) -> DeploymentActorConfig:
    """The singleton that holds breaker state, owned by the Runner deployment."""
    return DeploymentActorConfig(
        name=BREAKER,
        actor_class=ray.remote(ClockedBreakerActor),
        init_args=(config.circuit_breaker,),  # Serve's status gives them out as JSON: no clocks
        actor_options={"num_cpus": 0.01},  # with none it may land on a head that takes no work
    )


class ClockedLearningActor(LearningActor):
    """The learning actor with the clocks, and in the process, of its own."""

    def __init__(self, settings: str, sources: Sequence[str]) -> None:
        os.nice(10)  # learning gives way to answering
        section = ConformalSection.model_validate_json(settings)
        super().__init__(section, sources, time.monotonic, time.time)


def learning_actor(config: Config, sources: Collection[str]) -> DeploymentActorConfig:
    """The singleton that learns for all replicas, owned by the Ingress deployment."""
    return DeploymentActorConfig(
        name=LEARNING,
        actor_class=ray.remote(ClockedLearningActor),
        init_args=(config.conformal.model_dump_json(), sorted(sources)),  # Serve tells them as JSON
        actor_options={"num_cpus": 0.01},  # as the breaker's
    )


@serve.deployment
class Runner:
    """Batches items into runtime calls.

    ``@serve.batch`` only collects what arrives together; its answer for each item is a future of
    the dispatcher, so that nobody waits for a batchmate and every item has its own error.
    """

    def __init__(self, config: Config, registry: Registry) -> None:
        tracer = _set_up_replica(config)
        recorder = Recorder()
        self._queues = Queues(recorder)
        self._pump = Pump(recorder, RaySink(), self._look)
        batching, tollama = config.batching, config.tollama
        name = serve.get_replica_context().replica_tag
        self._runtimes = runtimes = Runtimes(len(tollama.base_urls), _place)
        self._breakers = SharedBreakers(
            ReplicaBoard(BreakerBoard(config.circuit_breaker, random.random, name), name),
            RayBreakerPort(lambda: serve.get_deployment_actor(BREAKER)),
            config.circuit_breaker,
            time.monotonic,
        )
        watched = partial(_watched, recorder, tracer)
        self._dispatcher: Dispatcher[Route, ModelRequest, Served] = Dispatcher(
            RoutedCalls([watched(self._call(config, i, tracer)) for i in range(len(runtimes))]),
            lane_of=lambda route: route.lane,
            batch_limit=lambda route: registry.batch_limit(
                route.key.model, batching.max_batch_size
            ),
            max_batch_bytes=tollama.max_request_bytes,
            settings=batching,
            lease_s=tollama.lease_s,
            clock=time.monotonic,
        )
        self._service = ModelService(
            self._dispatcher, runtimes, self._breakers, config.cache, time.monotonic, random.random
        )
        item: Callable[[ModelRequest], Coroutine[Any, Any, Outcome]] = self._service.forecast
        if tracer is not None:
            item = TracedItems(self._service.forecast, tracer, time.time_ns)
        self._desk: Desk[ModelRequest, Outcome] = Desk(item)
        collect: Any = self._collect  # serve.batch adds its setters where no type shows them
        collect.set_max_batch_size(batching.max_batch_size)
        collect.set_batch_wait_timeout_s(batching.collect_wait_s)

    async def forecast(self, group: Group[ModelRequest]) -> AsyncIterator[Parts[Outcome]]:
        """Bands for each item, or why there are none, with its number, as they come."""
        self._start()
        async with aclosing(self._desk.parts(await self._collect(group))) as parts:
            async for part in parts:
                yield part

    def forget(self, sender: str, numbers: Sequence[int]) -> None:
        """Drops items that nobody waits for any more."""
        self._desk.forget(sender, numbers)

    async def status(self) -> tuple[list[tuple[str, str, float]], int]:
        """Name, state and seconds to the next probe of every breaker, and how many items wait."""
        self._start()
        known, lanes = self._breakers.known(), self._dispatcher.stats()
        breakers = [(name, one["state"], one["retry_in_s"]) for name, one in known.items()]
        return breakers, sum(lane.queued for lane in lanes.values())

    async def command(self, model: str, command: Command) -> BreakerState:
        """An operator's word to a model's breakers, of all replicas and runtimes: their state."""
        self._start()
        told = [await self._breakers.command(n, command) for n in self._runtimes.lanes(model)]
        return told[0]

    @serve.batch
    async def _collect(
        self, groups: list[Group[ModelRequest]]
    ) -> list[dict[asyncio.Future[Outcome], int]]:
        return self._desk.take(groups)

    def _call(self, config: Config, runtime: int, tracer: Tracer | None) -> BatchCall:
        """The calls of one runtime, with connections and breakers of its own."""
        tollama, clock = config.tollama, time.monotonic
        prepare = None if tracer is None else forward
        http = RuntimeHttp(tollama, tollama.base_urls[runtime], prepare=prepare)
        port = TollamaRuntime(http, tollama, sleep=asyncio.sleep, clock=clock)
        breakers = BreakersOfRuntime(self._breakers, self._runtimes, runtime)
        return BatchCall(port, breakers, tollama, config.bands, clock, self._keep_late)

    def _start(self) -> None:
        self._breakers.start()
        self._pump.start()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve asks a replica for, and hands to `scaling.by_items`."""
        return demand(len(self._desk), self._dispatcher.stats().values())

    def _look(self) -> None:
        lanes, breakers = self._dispatcher.stats(), self._breakers.known()
        self._queues.look(lanes, breakers, self._service.kept_answers)

    def _keep_late(
        self, requests: Sequence[ModelRequest], results: Sequence[Served | Exception]
    ) -> None:
        self._service.keep_late(requests, results)


@serve.deployment
class Baseline:
    """The EWMA baseline as a service of its own."""

    def __init__(self, config: Config) -> None:
        _set_up_replica(config)
        self._config = config

    async def forecast(self, requests: Sequence[BaselineRequest]) -> Sequence[Bands]:
        """Bands of every item, in order."""
        return baseline_bands(requests, self._config.baseline, self._config.bands)


@serve.deployment
@serve.ingress()
class Ingress:
    """The HTTP edge: the Starlette app around a forecaster that calls the other two."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        runner: DeploymentHandle[Any],
        baseline: DeploymentHandle[Any],
        conformal: ConformalState | None,
    ) -> None:
        tracer = _set_up_replica(config)
        name = serve.get_replica_context().replica_tag
        self._baseline: BaselinePort = BaselineHandle(baseline, config.batching)
        clock = time.monotonic
        self._runner = handle = RunnerHandle(runner, name, config.batching)
        model: ModelPorts = handle
        if tracer is not None:
            model = TracedModel(model, tracer)
            self._baseline = TracedBaseline(self._baseline, tracer)
        notes = Notes(config.conformal.max_queued) if config.conformal.online else None
        answers = Answers(config, clock, random.random, conformal, notes)
        self._learning = None if notes is None else _learning(config, notes, answers)
        fallback = Fallback(config, answers, self._baseline, clock)
        forecaster = Forecaster(config, registry, answers, model, fallback, clock)
        bulk = BulkForecaster(config, registry, answers, model, fallback, clock)
        recorder = Recorder()
        log = RequestLog(config.observability.log_fallbacks_every_s)
        watch = Watch(recorder, Traffic(clock, time.time), log)
        self._pump = Pump(recorder, RaySink(), watch.look)
        shared = (config, registry, answers, forecaster, bulk, clock, watch, handle, tracer)
        self._service = Service(*shared, self._learning)
        self._fleet = RayFleet(runner, serve.get_replica_context().app_name, clock)

    async def __serve_build_asgi_app__(self) -> Starlette:
        """Serve runs this on the replica, after the constructor."""
        await warm_up(self._runner, self._baseline, self._service.config)
        self._pump.start()
        if self._learning is not None:
            self._learning.start()
        return build_app(self._service, self._fleet)


def _learning(config: Config, notes: Notes, answers: Answers) -> Learning:
    return Learning(
        notes,
        RayLearningPort(lambda: serve.get_deployment_actor(LEARNING)),
        answers.calibrate_by,
        config.conformal.exchange_interval_s,
        CoverageReport(config.conformal.target_coverage),
    )


def _place() -> Place:
    """Where this replica stands now; Serve may give it another rank while it runs."""
    context = serve.get_replica_context()
    return Place(context.rank.rank if context.rank else 0, max(1, context.world_size or 1))


def _watched(recorder: Recorder, tracer: Tracer | None, call: BatchCall) -> Call:
    """The calls of one runtime, counted, and traced where spans are wanted."""
    watched = WatchedCall(call, recorder, time.monotonic)
    return TracedCall(watched, tracer) if tracer else watched


def _set_up_replica(config: Config) -> Tracer | None:
    """Garbage collection, log lines and spans of this replica; the tracer, if spans are wanted."""
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
    replica = serve.get_replica_context()
    context = {"deployment": replica.deployment, "replica": replica.replica_tag}
    set_up_logging(config.observability.log_level, context)
    return configured_tracer(config.observability, context)
