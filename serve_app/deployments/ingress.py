"""The Ray Serve deployment Ingress."""

import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette

from runner.calibration.coverage import CoverageReport
from runner.calibration.state import ConformalState
from runner.config.loading import Config
from runner.config.registry import Registry
from runner.forecast.answers import AnswerStore, Outbox
from runner.forecast.forecaster import BaselinePort, Forecaster, ModelPort
from runner.forecast.shadow import Shadow
from runner.pacer import Pacer
from serve_app.deployments.actors import BOARDS, LEARNING
from serve_app.deployments.replica import set_up_replica
from serve_app.http.batch_endpoint import warm_up_batches
from serve_app.http.routes import build_app
from serve_app.http.service import Dependencies, UnderWay
from serve_app.remote.board_client import BoardClient
from serve_app.remote.clients import BaselineHandle, ReconnectingActor, RunnerHandle, warm_up
from serve_app.remote.cluster_status import RayClusterStatus
from serve_app.remote.learning_client import Learning
from serve_app.telemetry.recorder import Flusher, RaySink, Recorder
from serve_app.telemetry.request_history import RequestHistory
from serve_app.telemetry.request_metrics import RequestMetrics
from serve_app.telemetry.tracing import TracedBaseline, TracedModel


@serve.deployment
@serve.ingress()
class Ingress:
    """The Starlette app around a forecaster that calls the Runner and the Baseline."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        runner: DeploymentHandle[Any],
        baseline: DeploymentHandle[Any],
        conformal: ConformalState | None,
    ) -> None:
        tracer = set_up_replica(config)
        name = serve.get_replica_context().replica_tag
        self._baseline = BaselineHandle(baseline, config.batching)
        clock = time.monotonic
        self._runner = handle = RunnerHandle(runner, name, config.batching)
        model: ModelPort = handle
        bands: BaselinePort = self._baseline
        if tracer is not None:
            model = TracedModel(model, tracer)
            bands = TracedBaseline(bands, tracer)
        outbox = Outbox(config.conformal.max_queued) if config.conformal.online else None
        answers = AnswerStore(config, clock, random.random, conformal, outbox)
        self._learning = None
        if outbox is not None:
            shadow = Shadow(registry, model, config, outbox.add, answers.skill)
            self._learning = _learning(config, outbox, answers, shadow)
        under_way = UnderWay()
        pacer = Pacer(clock, lambda: under_way.single > 0)
        forecaster = Forecaster(config, registry, answers, model, bands, clock, pacer)
        recorder = Recorder()
        history = RequestHistory(clock, time.time)
        log_every_s = config.observability.log_fallbacks_every_s
        request_metrics = RequestMetrics(recorder, history, log_every_s)
        self._flusher = Flusher(recorder, RaySink(), request_metrics.update_gauges)
        shared = (config, registry, answers, forecaster, clock, request_metrics, handle)
        boards = BoardClient(_actor(BOARDS))
        self._service = Dependencies(*shared, under_way, pacer, boards, tracer, self._learning)
        self._cluster = RayClusterStatus(runner, serve.get_replica_context().app_name, clock)

    async def __serve_build_asgi_app__(self) -> Starlette:
        """The ASGI app; Serve calls this on the replica, after the constructor."""
        await warm_up(self._runner, self._baseline, self._service.config)
        await warm_up_batches(self._service)
        self._flusher.start()
        if self._learning is not None:
            self._learning.start()
        return build_app(self._service, self._cluster)


def _actor(name: str) -> Callable[..., Awaitable[Any]]:
    """Calls methods of an actor of this deployment."""
    return ReconnectingActor(lambda: serve.get_deployment_actor(name)).call


def _learning(config: Config, outbox: Outbox, answers: AnswerStore, shadow: Shadow) -> Learning:
    return Learning(
        outbox,
        _actor(LEARNING),
        answers.calibrate_by,
        config.conformal.exchange_interval_s,
        CoverageReport(config.conformal.target_coverage),
        shadow.offer,
    )
