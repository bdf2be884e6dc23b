"""``GET /tsfm/status``, a summary of the service, and ``GET /metrics``, all metrics.

The console and the command line show `StatusAnswer`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import AwareDatetime, Field, RootModel
from starlette.requests import Request
from starlette.responses import Response

from runner.calibration.coverage import CoverageReport
from runner.config.sections import Environment
from runner.types import BreakerState, FallbackReason
from serve_app.http.responses import Count, Milliseconds, ModelItem, Out, models_answer
from serve_app.http.service import Dependencies, LearningPort
from serve_app.telemetry import metrics
from serve_app.telemetry.request_history import KEPT_S, SLOT_S, RequestHistory, summary
from serve_app.telemetry.request_metrics import Totals
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
        description="How long the model is left alone; null when it is not, or when not known."
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
    models: list[ModelItem]


class MetricsText(RootModel[str]):
    """Prometheus' text format."""


WINDOW_S = 300
DEPLOYMENTS = ("Ingress", "Runner", "Baseline")


@dataclass(frozen=True, slots=True)
class RunnerReport:
    """The status of one Runner replica.

    Args:
        breakers: those of all models asked for so far, with the time to the next probe.
        waiting: items in its queues.
    """

    breakers: Sequence[BreakerItem]
    waiting: int


class ClusterStatus(Protocol):
    """Status of the other replicas; None where it is unknown, never an exception."""

    async def runner(self) -> RunnerReport | None:
        """The current status of one Runner replica."""
        ...

    async def metrics(self) -> bytes:
        """The metrics of all replicas in Prometheus' text format."""
        ...

    async def replicas(self) -> Mapping[str, int] | None:
        """The number of running replicas of each deployment."""
        ...


class StatusEndpoint:
    """Answers with the status; ``in_flight`` counts the requests under way."""

    def __init__(
        self, service: Dependencies, fleet: ClusterStatus, in_flight: Callable[[], int]
    ) -> None:
        self._service = service
        self._cluster = fleet
        self._in_flight = in_flight
        served = service.registry.served(service.config.environment)
        self._models = models_answer(served).models

    async def show(self, _: Request) -> Response:
        """The status as JSON."""
        body = (await self.status()).model_dump_json()
        return Response(body, media_type="application/json", headers={"cache-control": "no-store"})

    async def status(self) -> StatusAnswer:
        """The current status."""
        service, traffic = self._service, self._service.request_metrics.history
        replicas, runner = await self._cluster.replicas() or {}, await self._cluster.runner()
        recent = traffic.last(WINDOW_S)
        return StatusAnswer(
            version=package_version(),
            environment=service.config.environment,
            uptime_s=round(traffic.uptime_s, 3),
            scope="replica",
            window_s=WINDOW_S,
            requests=_requests(traffic),
            history=history(traffic),
            fallback_reasons=dict(recent.reasons.most_common()),
            queue=self._queue(runner),
            breakers=self._breakers(runner),
            replicas={name: replicas.get(name) for name in DEPLOYMENTS},
            coverage=coverage_items(service.learning),
            models=self._models,
        )

    def _queue(self, runner: RunnerReport | None) -> QueueDepths:
        overload = self._service.config.overload
        return QueueDepths(
            in_flight=self._in_flight(),
            waiting=None if runner is None else runner.waiting,
            shed_above=overload.shed_above,
            refuse_above=overload.refuse_above,
        )

    def _breakers(self, runner: RunnerReport | None) -> list[BreakerItem]:
        """The Runner's breaker states, else the last states that this replica received."""
        if runner is not None:
            return list(runner.breakers)
        last_known = self._service.answers.breaker_states()
        return [breaker_item(model, state, 0.0) for model, state in last_known.items()]


class MetricsEndpoint:
    """Answers scrapes by Prometheus."""

    def __init__(self, fleet: ClusterStatus) -> None:
        self._cluster = fleet

    async def show(self, _: Request) -> Response:
        """The metrics of all replicas, as text."""
        return Response(await self._cluster.metrics(), media_type=CONTENT_TYPE_LATEST)


def breaker_item(model: str, state: BreakerState, retry_in_s: float) -> BreakerItem:
    """A breaker in the status; one that is forced open has no next probe."""
    waits = retry_in_s > 0 and state is not BreakerState.FORCED_OPEN
    return BreakerItem(
        model=model, state=state, next_probe_in_s=round(retry_in_s, 3) if waits else None
    )


def coverage_report(learning: LearningPort | None) -> CoverageReport:
    """The coverage report; without rows where online learning is off."""
    return CoverageReport(0.0) if learning is None else learning.report


def coverage_items(learning: LearningPort | None) -> list[CoverageItem]:
    """The rows of the coverage report; empty where online learning is off."""
    report = coverage_report(learning)
    return [
        CoverageItem(
            source=row.source,
            segment=row.segment,
            target=report.target_coverage,
            coverage=row.coverage,
            samples=row.points,
            mean_width=row.mean_width,
            breach_rate=row.breach_rate,
            calibrated_coverage=row.calibrated_coverage,
            calibrated_mean_width=row.calibrated_mean_width,
        )
        for row in report.rows
    ]


def _requests(traffic: RequestHistory) -> Requests:
    recent = traffic.last(WINDOW_S)
    seconds = min(max(traffic.uptime_s, 1.0), WINDOW_S)
    return Requests(
        total=recent.requests,
        rate_per_s=round(recent.requests / seconds, 3),
        fallback_share=recent.fallback_share,
        cache_hit_share=recent.cache_hit_share,
        p50_ms=recent.p50_ms,
        p95_ms=recent.p95_ms,
    )


def history(traffic: RequestHistory) -> list[HistoryPoint]:
    """Every slot of the last ten minutes, or since the replica started."""
    slots = traffic.slots()[-KEPT_S // SLOT_S :]
    return [
        HistoryPoint(
            t=traffic.at(slot),
            requests=one.requests,
            fallbacks=one.reasons.total(),
            p50_ms=one.p50_ms,
            p95_ms=one.p95_ms,
        )
        for slot, one in ((slot, summary([slot])) for slot in slots)
    ]


def learning_totals(learning: LearningPort | None) -> Totals:
    """The learning counters; none where online learning is off."""
    if learning is None:
        return []
    return [
        (metrics.LEARNING_DROPPED, (), learning.dropped_notes),
        *((metrics.LEARNING_EXCHANGES, (how,), n) for how, n in learning.exchanges.items()),
        *((metrics.LEARNING, (str(what),), n) for what, n in learning.report.counts.items()),
    ]
