"""``GET /tsfm/status``, a summary of the service, and ``GET /metrics``, all metrics.

The console and the command line show `StatusAnswer`.
"""

import asyncio
import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Literal, NamedTuple, Protocol

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import AwareDatetime, Field, RootModel
from starlette.requests import Request
from starlette.responses import Response

from runner.calibration.coverage import CoverageReport
from runner.config.sections import Environment
from runner.types import BreakerState, FallbackReason
from serve_app.http.responses import (
    Count,
    Milliseconds,
    ModelItem,
    ModelsAnswer,
    Out,
    ReadyAnswer,
    models_answer,
)
from serve_app.http.service import Dependencies, LearningPort
from serve_app.http.skill_endpoint import SkillItem, SourceItem, skill_items, source_items
from serve_app.telemetry import metrics
from serve_app.telemetry.recorder import Recorder
from serve_app.telemetry.request_history import RequestHistory, Slot
from serve_app.version import package_version

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]


class Requests(Out):
    """Forecasts answered within `window_s`; refusals do not count.

    Items of batches count as well, but for the percentiles.
    """

    total: Count
    rate_per_s: Seconds
    fallback_share: Share | None
    cache_hit_share: Share | None
    p50_ms: Milliseconds | None
    p95_ms: Milliseconds | None


class HistoryPoint(Out):
    """Ten seconds of the last ten minutes."""

    t: AwareDatetime = Field(description="When they began, in UTC.")
    requests: Count
    fallbacks: Count
    p50_ms: Milliseconds | None
    p95_ms: Milliseconds | None


class QueueDepths(Out):
    """Requests under way, and where the replica begins to shed and to refuse."""

    in_flight: Count
    waiting: Count | None = Field(
        description="Items in line for the model at one Runner replica; null when not known."
    )
    shed_above: Count
    refuse_above: Count


class BreakerItem(Out):
    """The breaker of one model."""

    model: str = Field(description="By runtime name.")
    state: BreakerState
    next_probe_in_s: Seconds | None = Field(
        description="Seconds until a call is allowed; null when one is allowed now, or not known."
    )


class CoverageItem(Out):
    """What became of one kind of forecast lately, at all replicas; docs/calibration.md."""

    source: str
    segment: str
    target: Share
    coverage: Share | None = Field(description="Share of outcomes inside the interval answered.")
    samples: Count = Field(description="Outcomes behind it, each step of a forecast for itself.")
    mean_width: Share | None
    breach_rate: Share | None = Field(description="Share of outcomes outside the band.")
    calibrated_coverage: Share | None = Field(
        None, description="Likewise of the calibrated interval."
    )
    calibrated_mean_width: Share | None = None


class StatusAnswer(Out):
    """What one ingress replica has done lately, and what it knows of the rest."""

    version: str
    environment: Environment
    uptime_s: Seconds
    scope: Literal["replica"] = Field(description="The numbers are of the replica that answers.")
    window_s: Seconds = Field(description="Of `requests` and `fallback_reasons`.")
    requests: Requests
    history: list[HistoryPoint] = Field(description="Oldest first; the last one is not over yet.")
    fallback_reasons: dict[FallbackReason, Count]
    queue: QueueDepths
    breakers: list[BreakerItem] = Field(description="Of the models asked for so far.")
    replicas: dict[str, Count | None] = Field(
        description="Running replicas of each deployment; null when not known."
    )
    coverage: list[CoverageItem] = Field(description="Empty where no outcomes are recorded.")
    sources: list[SourceItem] = Field([], description="As in `/tsfm/skill`, as the next one.")
    skill: list[SkillItem] = Field([], description="Each model in each segment.")
    models: list[ModelItem]


class MetricsText(RootModel[str]):
    """Prometheus' text format."""


WINDOW_S = 300
READY_LIMIT_S = 0.2  # an orchestrator's probe has a second by default
DEPLOYMENTS = ("Ingress", "Runner", "Baseline")


class RunnerReport(NamedTuple):
    """The breakers of all models asked for so far at one Runner replica, and its queued items.

    ``installed`` are the runtime names of the models that its runtimes have, None if not known.
    """

    breakers: Sequence[BreakerItem]
    waiting: int
    installed: Collection[str] | None = None


class ClusterStatus(Protocol):
    """Status of the other replicas; None where it is unknown, never an exception."""

    async def runner(self) -> RunnerReport | None:
        """The current status of one Runner replica."""

    async def metrics(self) -> bytes:
        """The metrics of all replicas in Prometheus' text format."""

    async def replicas(self) -> Mapping[str, int] | None:
        """The number of running replicas of each deployment."""


class StatusEndpoint:
    """Answers with the status of this replica, and with the metrics of all."""

    def __init__(self, service: Dependencies, cluster: ClusterStatus) -> None:
        self._service = service
        self._cluster = cluster
        environment = service.config.environment
        self._models = models_answer(service.registry.served(environment)).models
        default = service.registry.resolve(service.config.request.model, environment)
        self._default_model = default.runtime_name

    async def ready(self, _: Request) -> Response:
        """Whether forecasts can be answered; a probe is not kept waiting by a dead Runner."""
        runner = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_LIMIT_S):
                runner = await self._cluster.runner()
        answer = ReadyAnswer(
            status="ready",
            breakers=self._service.answers.breaker_states(),
            default_model=self._default_model,
            default_model_installed=_has(runner, self._default_model),
        )
        return _json(answer)

    async def models(self, _: Request) -> Response:
        """The models that may be asked, and whether a runtime has them."""
        return _json(ModelsAnswer(models=self._models_at(await self._cluster.runner())))

    async def metrics(self, _: Request) -> Response:
        """The metrics of all replicas, as text."""
        return Response(await self._cluster.metrics(), media_type=CONTENT_TYPE_LATEST)

    async def show(self, _: Request) -> Response:
        """The status as JSON."""
        replicas, runner = await self._cluster.replicas() or {}, await self._cluster.runner()
        history, overload = self._service.request_metrics.history, self._service.config.overload
        recent = history.last(WINDOW_S)
        answer = StatusAnswer(
            version=package_version(),
            environment=self._service.config.environment,
            uptime_s=round(history.uptime_s, 3),
            scope="replica",
            window_s=WINDOW_S,
            requests=_requests(recent, history.uptime_s),
            history=_history(history),
            fallback_reasons=dict(recent.reasons.most_common()),
            queue=QueueDepths(
                in_flight=self._service.under_way.total,
                waiting=None if runner is None else runner.waiting,
                shed_above=overload.shed_above,
                refuse_above=overload.refuse_above,
            ),
            breakers=self._breakers(runner),
            replicas={name: replicas.get(name) for name in DEPLOYMENTS},
            coverage=_coverage(self._service.learning),
            sources=source_items(self._service),
            skill=skill_items(self._service),
            models=self._models_at(runner),
        )
        return _json(answer)

    def _models_at(self, runner: RunnerReport | None) -> list[ModelItem]:
        return [
            model.model_copy(update={"installed": _has(runner, model.runtime_name)})
            for model in self._models
        ]

    def _breakers(self, runner: RunnerReport | None) -> list[BreakerItem]:
        """The Runner's breaker states, else the last states that this replica received."""
        if runner is not None:
            return list(runner.breakers)
        last_known = self._service.answers.breaker_states()
        return [breaker_item(model, state, 0.0) for model, state in last_known.items()]


def _json(answer: Out) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(answer.model_dump_json(), headers=headers, media_type="application/json")


def _has(runner: RunnerReport | None, model: str) -> bool | None:
    """Whether a runtime has the model, by its runtime name; None if that is not known."""
    if runner is None or runner.installed is None:
        return None
    return model in runner.installed


def breaker_item(model: str, state: BreakerState, retry_in_s: float) -> BreakerItem:
    """A breaker in the status; one that is forced open has no next probe."""
    waits = retry_in_s > 0 and state is not BreakerState.FORCED_OPEN
    return BreakerItem(
        model=model, state=state, next_probe_in_s=round(retry_in_s, 3) if waits else None
    )


def _requests(recent: Slot, uptime_s: float) -> Requests:
    return Requests(
        total=recent.requests,
        rate_per_s=round(recent.requests / min(max(uptime_s, 1.0), WINDOW_S), 3),
        fallback_share=recent.share(recent.reasons.total()),
        cache_hit_share=recent.share(recent.cache_hits),
        p50_ms=recent.percentile_ms(0.5),
        p95_ms=recent.percentile_ms(0.95),
    )


def _history(history: RequestHistory) -> list[HistoryPoint]:
    """Every slot of the last ten minutes, or since the replica started."""
    return [
        HistoryPoint(
            t=history.at(slot),
            requests=slot.requests,
            fallbacks=slot.reasons.total(),
            p50_ms=slot.percentile_ms(0.5),
            p95_ms=slot.percentile_ms(0.95),
        )
        for slot in history.slots()
    ]


def _coverage(learning: LearningPort | None) -> list[CoverageItem]:
    """The rows of the coverage report; empty where online learning is off."""
    if learning is None:
        return []
    report = learning.report
    return [
        CoverageItem(**asdict(row), samples=row.points, target=report.target_coverage)
        for row in report.rows
    ]


def update_gauges(service: Dependencies, kept_bodies: int, recorder: Recorder) -> None:
    """Sets the gauges of this replica, and the counters that are counted elsewhere."""
    gauge, counter = recorder.gauge, recorder.counter
    gauge(metrics.IN_FLIGHT).set(service.under_way.total)
    gauge(metrics.TASKS).set(len(asyncio.all_tasks()))
    gauge(metrics.KEPT, "answers").set(service.answers.kept_answers)
    gauge(metrics.KEPT, "bytes").set(kept_bodies)
    if service.learning is None:
        return
    counter(metrics.LEARNING_DROPPED).follow(service.learning.dropped_notes)
    for result, exchanges in service.learning.exchanges.items():
        counter(metrics.LEARNING_EXCHANGES, result).follow(exchanges)
    report = service.learning.report
    for kind, count in report.counts.items():
        counter(metrics.LEARNING, kind).follow(count)
    for row in report.rows:
        for metric, value in (
            (metrics.COVERAGE_TARGET, report.target_coverage),
            (metrics.COVERAGE_SAMPLES, row.points),
            (metrics.COVERAGE, row.coverage),
            (metrics.CALIBRATED, row.calibrated_coverage),
            (metrics.WIDTH, row.mean_width),
            (metrics.BREACHES, row.breach_rate),
        ):
            if value is not None:
                gauge(metric, row.source, row.segment).set(value)
    _update_skill(service, report, recorder)


def _update_skill(service: Dependencies, report: CoverageReport, recorder: Recorder) -> None:
    for row in report.sources:
        recorder.gauge(metrics.MISCOVERED, row.source).set(float(row.miscovers is not None))
    for one in skill_items(service):
        for metric, value in (
            (metrics.SKILL, one.skill),
            (metrics.SKILL_HIGH, one.skill_high),
            (metrics.SKILL_FORECASTS, one.forecasts),
            (metrics.ROUTED, float(one.routed)),
        ):
            if value is not None:
                recorder.gauge(metric, one.model, one.segment).set(value)
