"""Wire models of ``GET /tsfm/status``: what the console and the command line show."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, RootModel

from runner.config.sections import Environment
from runner.types import BreakerState, FallbackReason
from serve_app.http.responses import Count, Milliseconds, ModelItem, Out

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
