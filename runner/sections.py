"""The sections of the configuration: what each setting means, and what it may be.

Rules across fields stand in one validator a section and name both fields.
"""

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AnyHttpUrl, BeforeValidator, Field, SecretStr, model_validator

from runner.runtime_url import RuntimeUrl, runtime_name
from runner.section import (
    Count,
    CountOrNone,
    Fraction,
    Level,
    NonNegative,
    Positive,
    Section,
    none_from_text,
)
from runner.types import MIN_EPS, Space

MAX_RUNTIMES = 64  # each has connections and breakers of its own in every Runner
RateOrOff = Annotated[
    Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None,
    BeforeValidator(none_from_text),
]

TicksOrOff = Annotated[
    Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, BeforeValidator(none_from_text)
]


class Environment(StrEnum):
    """Where the service runs; decides which models and which laxness are allowed."""

    DEV = "dev"
    PROD = "prod"


class RequestSection(Section):
    """Defaults and bounds of a forecast request."""

    freq: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}[mhd]$")]
    input_len_steps: Count
    horizon_steps: Count
    quantiles: Annotated[tuple[Level, ...], Field(min_length=1)]
    model: str
    deadline_ms: Positive
    max_gap_minutes: NonNegative
    max_points: Annotated[int, Field(ge=2)]
    max_horizon_steps: Count
    max_levels: Count
    max_covariates: CountOrNone
    max_cells: Count  # points and steps times covariates: bounds the work of one request
    max_body_bytes: Count
    max_batch_requests: Count
    max_batch_body_bytes: Count
    batch_deadline_ms: Positive
    body_timeout_s: Positive

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.quantiles) != sorted(set(self.quantiles)):
            raise ValueError("quantiles must ascend and be unique")
        if self.horizon_steps > self.max_horizon_steps:
            raise ValueError("horizon_steps must not be over max_horizon_steps")
        if self.input_len_steps > self.max_points:
            raise ValueError("input_len_steps must not be over max_points")
        return self


class TransformSection(Section):
    """The space models work in unless the request says otherwise."""

    space: Space
    eps: Annotated[float, Field(ge=MIN_EPS, lt=0.5)]


class TollamaSection(Section):
    """How we talk to the runtime (tollama, contract of /v1/forecast)."""

    base_urls: Annotated[tuple[RuntimeUrl, ...], Field(min_length=1, max_length=MAX_RUNTIMES)]
    timeout_s: Positive  # of one call, enforced in our client only: tollama's own kills the model
    lease_s: Positive  # how long a call that timed out may keep its slot
    max_retries: CountOrNone
    backoff_base_s: Positive
    backoff_max_s: Positive
    retry_tokens: Positive
    retry_token_ratio: Fraction
    max_connections: Count
    max_keepalive_connections: Count
    max_request_bytes: Count
    max_response_bytes: Count
    api_key: SecretStr | None = None  # from the environment only: TSFM_TOLLAMA__API_KEY

    @model_validator(mode="before")
    @classmethod
    def _one_address(cls, values: Any) -> Any:
        """``TSFM_TOLLAMA__BASE_URL`` is the short form for one runtime: it replaces the list."""
        if isinstance(values, dict) and "base_url" in values:
            rest = {key: value for key, value in values.items() if key != "base_url"}
            return rest | {"base_urls": [values["base_url"]]}
        return values

    @property
    def longest_call_s(self) -> float:
        """How long one call can take with all its retries and pauses."""
        return self.timeout_s + self.max_retries * (self.backoff_max_s + self.timeout_s)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({runtime_name(url) for url in self.base_urls}) < len(self.base_urls):
            raise ValueError("base_urls: the same runtime stands twice")
        if self.max_keepalive_connections > self.max_connections:
            raise ValueError("max_keepalive_connections must not be over max_connections")
        if self.lease_s < self.timeout_s:
            raise ValueError("lease_s must not be under timeout_s")
        if self.backoff_base_s > self.backoff_max_s:
            raise ValueError("backoff_base_s must not be over backoff_max_s")
        return self


class BatchingSection(Section):
    """How items are pooled into runtime calls."""

    max_batch_size: Count
    collect_wait_s: Annotated[float, Field(ge=0, le=0.005)]
    share_calls_s: Annotated[float, Field(ge=0, le=0.05)]  # between calls of an ingress to a lane
    slots_per_model: Count  # tollama holds one lock per model family: more only queues inside it
    lead_s: Annotated[float, Field(ge=0)]  # the next call leaves so long before one's expected end
    max_queued_items: Count  # per model; bulk items are refused and evicted first
    bulk_batch_size: Count  # bulk items in one call while interactive ones wait
    max_call_s: Positive  # batches are cut to calls of this time, or of 1.25 times a lone item's
    prompt_call_s: Positive  # the same while interactive items come, or twice what one item takes
    max_wait_s: Positive  # to the end of their call; expected to wait longer, they get the baseline
    overload_wait_s: Positive  # the same once a line has been longer than this for 0.3 s
    estimate_forgets_after_s: Positive  # a call-time estimate older than this is not trusted

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.overload_wait_s > self.max_wait_s:
            raise ValueError("overload_wait_s must not be over max_wait_s")
        return self


class OverloadSection(Section):
    """What happens when more comes in than can be done; counts are per ingress replica."""

    shed_above: Count  # requests under way beyond which the baseline answers in place, and no batch
    refuse_above: Count  # and beyond which callers are asked to come back
    retry_after_s: Positive

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.shed_above > self.refuse_above:
            raise ValueError("shed_above must not be over refuse_above")
        return self


class FallbackSection(Section):
    """When the baseline answers, and how long each way out may take."""

    min_points_for_tsfm: Annotated[int, Field(ge=2)]
    baseline_only_liquidity: tuple[str, ...]
    baseline_timeout_ms: Positive
    baseline_rest_s: Positive  # how long nobody asks a baseline service that had no answer in time
    reserve_ms: Positive  # kept back from the deadline, so that a fallback can still answer

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.baseline_timeout_ms > self.reserve_ms:
            raise ValueError("baseline_timeout_ms must not be over reserve_ms")
        return self


class BaselineSection(Section):
    """How the EWMA baseline reads a series; see runner/baseline.py for the formulas."""

    half_lives_steps: Annotated[tuple[Positive, ...], Field(min_length=1)]  # memories of the scale
    trust_moves: Positive  # moves in a memory at which it counts as much as the next longer one
    level_alphas: tuple[Level, ...]  # smoothings tried against the last value; none: never smooth
    width_factor: Positive  # widens or narrows every band

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.half_lives_steps) != sorted(set(self.half_lives_steps)):
            raise ValueError("half_lives_steps must ascend and be unique")
        return self


class BandsSection(Section):
    """Width limits between the outermost levels, in probability."""

    min_interval_width: Annotated[float, Field(ge=0, lt=1)]
    min_interval_ticks: TicksOrOff  # if so many of a series' own ticks are less; null: never
    max_interval_width: Annotated[float, Field(gt=0, le=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_interval_width > self.max_interval_width:
            raise ValueError("min_interval_width must not be over max_interval_width")
        return self


class CacheSection(Section):
    """Answers kept in each replica."""

    ttl_s: NonNegative
    ttl_jitter_fraction: Fraction
    stale_if_error_s: NonNegative
    max_entries: Count


class CircuitBreakerSection(Section):
    """When calls to a model stop, and how they start again."""

    consecutive_failures: Count
    window_s: Positive
    min_calls: Count
    failure_rate: RateOrOff  # share of failed calls in the window that opens; null: never
    slow_call_s: Positive
    slow_call_rate: RateOrOff  # likewise of calls that took slow_call_s or longer
    cooldown_s: Positive
    cooldown_growth: Annotated[float, Field(ge=1)]
    cooldown_max_s: Positive
    cooldown_jitter_fraction: Fraction
    probes: Count  # permits handed out at once while half open
    probe_lease_s: Positive
    successes_to_close: Count
    sync_interval_s: Positive  # how often replicas exchange state with the shared breaker
    shared_timeout_s: Positive  # for one call to the shared breaker; then go on alone
    ingress_memory_s: Annotated[float, Field(ge=0, le=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.cooldown_s > self.cooldown_max_s:
            raise ValueError("cooldown_s must not be over cooldown_max_s")
        if self.shared_timeout_s > self.sync_interval_s:
            raise ValueError("shared_timeout_s must not be over sync_interval_s")
        if self.sync_interval_s + self.shared_timeout_s > 0.5:
            raise ValueError(
                "sync_interval_s and shared_timeout_s must not be over 0.5 together: "
                "two replicas agree after two rounds, and that within 1 s"
            )
        return self


class Traces(StrEnum):
    """Where OpenTelemetry spans go."""

    NONE = "none"
    CONSOLE = "console"
    OTLP = "otlp"


class ObservabilitySection(Section):
    """What is written down while the service runs."""

    log_level: Annotated[str, Field(pattern=r"^(DEBUG|INFO|WARNING|ERROR)$")]
    log_fallbacks_every_s: NonNegative  # one line for each reason, with how many there were
    traces: Traces  # none costs nothing
    traces_endpoint: AnyHttpUrl  # of an OTLP collector, over HTTP
    traces_share: Fraction  # of those that begin here; a caller's traceparent decides for its own


class SloSection(Section):
    """What users are promised; read by the load tests' limits and the status page."""

    p95_ms: Positive
    baseline_ms: Positive
    cycle_s: Positive
