"""The sections of the configuration: meaning, bounds and expert default of each setting.

Rules across fields are in ``not_over`` or in one validator of the section; they name both fields.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from runner.config.runtime_url import RuntimeUrl, runtime_name
from runner.types import MIN_EPS, Space

MAX_RUNTIMES = 64  # each has connections and breakers of its own in every Runner


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError("must ascend and be unique")
    return values


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Level = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Ascending = AfterValidator(_ascending)


class Section(BaseModel):
    """One section: frozen, and without unknown keys.

    A field without a default is an operator's setting and must be in the file. A field with a
    default is an expert's: the docstring below it says what it means and why it has this value.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )
    no_longer_settings: ClassVar[Mapping[str, tuple[float, str]]] = {}
    """Keys of earlier versions: the only value that is still accepted, and the reason."""
    not_over: ClassVar[Mapping[str, str]] = {}
    """Pairs of fields: the first must not be over the second."""

    @model_validator(mode="before")
    @classmethod
    def _drop_old_keys(cls, values: Any) -> Any:
        """A file of an earlier version still loads, unless a key in it would have no effect."""
        if not isinstance(values, dict):
            return values
        for key in cls.no_longer_settings.keys() & values.keys():
            accepted, reason = cls.no_longer_settings[key]
            if values[key] not in (accepted, str(accepted)):
                raise ValueError(f"{key} is no longer a setting, remove it: {reason}")
        return {key: value for key, value in values.items() if key not in cls.no_longer_settings}

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        for low, high in self.not_over.items():
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} must not be over {high}")
        return self


class Environment(StrEnum):
    """Where the service runs: decides which models are allowed, and whether tokens are required."""

    DEV = "dev"
    PROD = "prod"


class RequestSection(Section):
    """Defaults and limits of a forecast request."""

    not_over: ClassVar = {"horizon_steps": "max_horizon_steps", "input_len_steps": "max_points"}

    freq: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}[mhd]$")]
    """Step of a series whose request names none: `5m`, `1h`, `1d`."""
    input_len_steps: Count
    """How many of the newest steps of a series the forecast uses."""
    horizon_steps: Count
    """Steps ahead, where a request names none."""
    quantiles: Annotated[tuple[Level, ...], Field(min_length=1), Ascending]
    """Quantile levels, where a request names none."""
    model: str
    """The model, where a request names none."""
    deadline_ms: Positive
    """Time limit of an answer. Callers can only shorten it."""
    max_gap_minutes: NonNegative
    """A series with a longer gap gets the baseline, where a request names no limit."""
    max_batch_requests: Count
    """Most requests in one batch."""
    batch_deadline_ms: Positive
    """Time limit of every result of a batch."""
    max_points: Annotated[int, Field(ge=2)] = 20_000
    """Most values in one request: 69 days of five-minute steps."""
    max_horizon_steps: Count = 512
    """Most steps ahead: 43 hours of five-minute steps."""
    max_levels: Count = 21
    """Most quantile levels."""
    max_covariates: CountOrNone = 16
    """Most covariates."""
    max_cells: Count = 1_000_000
    """Most numbers in one request, covariates included: limits the work of one request."""
    max_body_bytes: Count = 4_194_304
    """Longest body of one forecast; 20,000 points with times take about 1 MB."""
    max_batch_body_bytes: Count = 33_554_432
    """Longest body of a batch; 2,000 requests of 288 points take about 12 MB."""
    body_timeout_s: Positive = 5
    """A body must have arrived within this time: a slow sender must not hold a connection."""


class TransformSection(Section):
    """The space that models work in, where a request names none."""

    space: Space = Space.LOGIT
    """`logit`: log-odds, which keep every band in [0, 1]; `identity`: probabilities."""
    eps: Annotated[float, Field(ge=MIN_EPS, lt=0.5)] = 1e-6
    """Probabilities are clipped to [eps, 1 - eps] before log-odds, which are finite only inside."""


class TollamaSection(Section):
    """How the runtime is called (tollama, contract of /v1/forecast)."""

    not_over: ClassVar = {
        "max_keepalive_connections": "max_connections",
        "timeout_s": "lease_s",
        "backoff_base_s": "backoff_max_s",
    }

    base_urls: Annotated[tuple[RuntimeUrl, ...], Field(min_length=1, max_length=MAX_RUNTIMES)]
    """Addresses of the runtimes; each Runner replica prefers the one of its rank."""
    timeout_s: Positive
    """Time limit of one call. Only our client applies it: tollama's own limit ends the model."""
    warm_models: tuple[str, ...] = ()
    """Models to load before callers ask, beside `request.model`; names or aliases."""
    api_key: SecretStr | None = None
    """Sent as a bearer token; from the environment only."""
    lease_s: Positive = 10
    """How long a call that timed out keeps its slot: the runtime may still be working on it."""
    max_retries: CountOrNone = 1
    """Retries of a call that could not connect or got a 429, within timeout and retry budget."""
    backoff_base_s: Positive = 0.05
    """Pause before the first retry; later ones are longer, all with jitter."""
    backoff_max_s: Positive = 0.2
    """Longest pause before a retry: a longer one would use up the deadline."""
    retry_tokens: Positive = 10
    """Size of the retry budget: a failure takes one token, retries stop below half (gRPC A6)."""
    retry_token_ratio: Fraction = 0.1
    """What a success gives back of a token: at most so many retries per call (gRPC A6)."""
    max_connections: Count = 200
    """Most connections of one Runner replica to one runtime."""
    max_keepalive_connections: Count = 50
    """How many of them stay open while idle."""
    max_request_bytes: Count = 9_000_000
    """Longest body of one call to the runtime; tollama refuses bodies over 10 MB."""
    max_response_bytes: Count = 33_554_432
    """A longer answer, unpacked, counts as bad output."""

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
            raise ValueError("base_urls: the same runtime is listed twice")
        return self


class BatchingSection(Section):
    """How items are put together into runtime calls."""

    no_longer_settings: ClassVar = {
        "collect_wait_s": (0.0, "items wait in the dispatcher only, a second wait adds latency"),
        "overload_wait_s": (0.2, "under overload as many items wait as a short call takes"),
        "lead_s": (0.1, "two calls at a time slow each other in the runtime"),
        "bulk_batch_size": (32, "prompt_call_s limits the calls that hold items of batches"),
    }
    max_batch_size: Count
    """Most series in one call to the runtime."""
    share_calls_s: Annotated[float, Field(ge=0, le=0.05)] = 0.004
    """How long an ingress collects items for one call to a Runner: 4 ms halve the CPU of each."""
    slots_per_model: Count = 1
    """Calls to one model at the same time: a second one would only wait in tollama."""
    max_queued_items: Count = 4096
    """Most items that wait for one model; items of batches are refused and removed first."""
    max_call_s: Positive = 0.6
    """Longest call, or 1.25 times one item: slow models get smaller batches, not timeouts. Half of
    the shipped `tollama.timeout_s`."""
    prompt_call_s: Positive = 0.1
    """The same for calls with items of batches while single requests wait or arrive, or 1.5 times
    one item. Under overload as many single requests wait as such a call takes: p95 stays within
    300 ms."""
    max_wait_s: Positive = 1.2
    """An item that is expected to wait longer, to the end of its call, gets the baseline. A longer
    wait would hardly meet the shipped deadline."""
    estimate_forgets_after_s: Positive = 2
    """Older estimates of call times are not used: a cold runtime is slow only once."""


class OverloadSection(Section):
    """What happens under overload; counts are per ingress replica."""

    not_over: ClassVar = {"shed_above": "refuse_above"}

    shed_above: Count
    """Requests in progress above which the ingress takes no batch and calls no model."""
    refuse_above: Count
    """Requests in progress above which callers get a 429."""
    retry_after_s: Positive = 1
    """What Retry-After says with a 429: the shortest time that the header can hold."""


class FallbackSection(Section):
    """When the baseline answers instead of the model, and how long that may take."""

    not_over: ClassVar = {"baseline_timeout_ms": "reserve_ms"}

    min_points_for_tsfm: Annotated[int, Field(ge=2)]
    """A series with fewer observations in its window gets the baseline."""
    baseline_only_liquidity: tuple[str, ...]
    """Series with one of these liquidity buckets always get the baseline."""
    baseline_timeout_ms: Positive = 20
    """How long the Baseline deployment may take; then the ingress computes the bands itself."""
    baseline_rest_s: Positive = 1
    """How long the Baseline deployment is not called after it was late: one wait is enough."""
    reserve_ms: Positive = 120
    """Part of the deadline that is reserved for a fallback."""


class BaselineSection(Section):
    """Parameters of the EWMA baseline; runner/baseline/ewma_bands.py has the formulas.

    The defaults are fitted to real markets (docs/decisions/baseline.md); `tsfm backtest` checks.
    """

    half_lives_steps: Annotated[tuple[Positive, ...], Field(min_length=1), Ascending] = (3, 24, 288)
    """Half-lives of the scale estimates, from short to long."""
    trust_moves: Positive = 2.5
    """Price changes in a half-life at which its estimate counts as much as the next longer one."""
    level_alphas: tuple[Level, ...] = (0.5, 0.2)
    """Smoothing factors that are tried against the last value; an empty list: never smooth."""
    width_factor: Positive = 0.85
    """Factor on the width of every band."""


class BandsSection(Section):
    """Limits of the width between the outermost levels, in probability."""

    not_over: ClassVar = {"min_interval_width": "max_interval_width"}

    min_interval_width: Annotated[float, Field(ge=0, lt=1)]
    """Least distance between the outermost levels."""
    min_interval_ticks: Positive | None
    """The same in ticks of the series, where that is less; `null`: not used."""
    max_interval_width: Rate
    """Greatest distance between the outermost levels."""


class RoutingMode(StrEnum):
    """What is made of the measured skill of a model."""

    OFF = "off"  # it is not measured
    OBSERVE = "observe"  # measured and reported
    ENFORCE = "enforce"  # the baseline answers where the model loses to it


class Pin(StrEnum):
    """What answers in a segment, whatever is measured."""

    MODEL = "model"
    BASELINE = "baseline"


def _yaml_off(value: object) -> object:
    """YAML reads a bare ``off`` as false."""
    return RoutingMode.OFF if value is False else value


_SEGMENT = (
    r"(all|activity=(few|some|many)\|price=(edge|side|middle)\|freq=\d+[mhd]"
    r"(\|closes=(hour|day|later))?(\|liquidity=.+)?)"
)


def _segment_name(text: str) -> str:
    if not re.fullmatch(_SEGMENT, text):
        raise ValueError(
            "is no segment; `tsfm leaderboard` names them, like all or "
            "activity=few|price=edge|freq=5m"
        )
    return text


SegmentName = Annotated[str, AfterValidator(_segment_name)]


class RoutingSection(Section):
    """Which of model and baseline answers, by their losses so far; see docs/evidence.md."""

    mode: Annotated[RoutingMode, BeforeValidator(_yaml_off)] = RoutingMode.OBSERVE
    """`off`: not measured; `observe`: measured and reported; `enforce`: where a model loses to the
    baseline with evidence, the baseline answers. Measuring alone changes no answer."""
    shadow: tuple[str, ...] = ()
    """Further models that are asked for one in ten of the answered requests, while no answer waits
    for them, and scored like the others: `tsfm leaderboard` shows which deserves to answer."""
    pins: Annotated[dict[SegmentName, Pin], Field(max_length=64)] = Field({})
    """Segments, as `tsfm leaderboard` names them, that always get the `model` or the `baseline`;
    `all`: every other one. Only where `mode` is `enforce`."""


class CacheSection(Section):
    """Answers that each replica keeps."""

    no_longer_settings: ClassVar = {
        "ttl_jitter_fraction": (0.1, "it is enough that answers do not all expire together"),
    }

    ttl_s: NonNegative
    """How long an answer of the model is fresh; each expires up to a tenth earlier, at random."""
    stale_if_error_s: NonNegative
    """How long after that it may still be used when the model fails."""
    max_entries: Count
    """Answers kept in each ingress replica, and as many in each Runner replica."""


class CircuitBreakerSection(Section):
    """When calls to a model stop, and how they start again."""

    not_over: ClassVar = {"cooldown_s": "cooldown_max_s", "shared_timeout_s": "sync_interval_s"}

    consecutive_failures: Count
    """So many failed calls in a row open the breaker."""
    failure_rate: Rate | None
    """Share of failed calls in the window that opens the breaker; `null`: never."""
    slow_call_rate: Rate | None
    """Share of slow calls in the window that opens the breaker; `null`: never."""
    slow_call_s: Positive
    """A call that takes this long is slow."""
    cooldown_s: Positive
    """How long an open breaker makes no call before it sends a probe."""
    window_s: Positive = 60
    """Over how long the two rates are taken."""
    min_calls: Count = 20
    """With fewer calls in the window there is no rate: two calls are too few."""
    cooldown_growth: Annotated[float, Field(ge=1)] = 1.5
    """Each further cooldown is so many times longer: a long outage needs fewer probes."""
    cooldown_max_s: Positive = 600
    """Longest cooldown: a model that works again gets calls within about ten minutes."""
    cooldown_jitter_fraction: Fraction = 0.1
    """How much a cooldown varies at random: breakers that opened together do not probe together."""
    probes: Count = 1
    """Probes in progress at the same time while half open. One call is enough to know."""
    probe_lease_s: Positive = 5
    """A probe that has not ended within this time counts as lost. At least the longest call."""
    successes_to_close: Count = 1
    """Successful probes that close the breaker."""
    sync_interval_s: Positive = 0.25
    """How often replicas exchange state with the shared breaker."""
    shared_timeout_s: Positive = 0.2
    """Time limit of one call to the shared breaker; then a replica decides by itself."""
    ingress_memory_s: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How long an ingress remembers an open breaker. With sync_interval_s this is how long an
    operator's command takes to reach all."""

    @model_validator(mode="after")
    def _check(self) -> Self:
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
    """Logs and traces."""

    log_level: Annotated[str, Field(pattern=r"^(DEBUG|INFO|WARNING|ERROR)$")]
    """`DEBUG`, with a line for every request, `INFO`, `WARNING` or `ERROR`."""
    traces: Traces
    """Where spans go: `none`, which costs nothing; `console`, JSON on stderr; `otlp`."""
    traces_endpoint: AnyHttpUrl
    """The OTLP collector, over HTTP, for `traces: otlp`."""
    traces_share: Fraction
    """Share of the traces that begin here; a caller's traceparent decides for its own."""
    log_fallbacks_every_s: NonNegative = 60
    """One log line per reason and this time, with the count: an outage must not flood the log."""


class SloSection(Section):
    """Service level objectives; read by the load tests and the status page."""

    no_longer_settings: ClassVar = {"baseline_ms": (50, "nothing reads it")}

    p95_ms: Positive
    """95th percentile of the time to answer."""
    cycle_s: Positive
    """Time for a whole cycle of markets."""
