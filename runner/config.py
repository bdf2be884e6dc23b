"""One frozen object for every setting: values live in YAML, meaning and bounds live here.

A file is the whole truth: fields have no defaults, unknown and duplicate keys are refused. Any
setting can be overridden by ``TSFM_<SECTION>__<KEY>``; secrets come from the environment only.
"""

import os
from collections.abc import Hashable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import yaml
from pydantic import (
    AnyHttpUrl,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from runner.conformal_section import ConformalSection
from runner.errors import ConfigError
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
from runner.security import SecuritySection
from runner.types import Space

ENV_PREFIX = "TSFM_"


RateOrOff = Annotated[
    Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None,
    BeforeValidator(none_from_text),
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
    eps: Annotated[float, Field(gt=0, lt=0.5)]


class TollamaSection(Section):
    """How we talk to the runtime (tollama, contract of /v1/forecast)."""

    base_url: AnyHttpUrl
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

    @property
    def longest_call_s(self) -> float:
        """How long one call can take with all its retries and pauses."""
        return self.timeout_s + self.max_retries * (self.backoff_max_s + self.timeout_s)

    @model_validator(mode="after")
    def _check(self) -> Self:
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
    slots_per_model: Count  # tollama holds one lock per model family: more only queues inside it
    max_queued_items: Count  # per model; bulk items are refused and evicted first
    bulk_batch_size: Count  # bulk items in one call while interactive ones wait
    max_call_s: Positive  # batches are cut so that a call is expected to take no longer
    estimate_forgets_after_s: Positive  # a call-time estimate older than this is not trusted


class OverloadSection(Section):
    """What happens when more comes in than can be done; counts are per ingress replica."""

    shed_above: Count  # requests under way beyond which the baseline answers in place
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


class ObservabilitySection(Section):
    """What is written down while the service runs."""

    log_level: Annotated[str, Field(pattern=r"^(DEBUG|INFO|WARNING|ERROR)$")]


class SloSection(Section):
    """What users are promised; read by the load tests' limits and the status page."""

    p95_ms: Positive
    baseline_ms: Positive
    cycle_s: Positive


class Config(BaseSettings):
    """The whole configuration of one service."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter="__"
    )
    secret_keys: ClassVar[Mapping[str, tuple[str, ...]]] = {"tollama": ("api_key",)}

    environment: Environment
    models_file: Path
    request: RequestSection
    transform: TransformSection
    tollama: TollamaSection
    batching: BatchingSection
    overload: OverloadSection
    fallback: FallbackSection
    baseline: BaselineSection
    bands: BandsSection
    cache: CacheSection
    circuit_breaker: CircuitBreakerSection
    conformal: ConformalSection
    security: SecuritySection
    observability: ObservabilitySection
    slo: SloSection

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.fallback.reserve_ms >= self.request.deadline_ms:
            raise ValueError("fallback.reserve_ms must be under request.deadline_ms")
        if self.circuit_breaker.probe_lease_s < self.tollama.longest_call_s:
            raise ValueError(
                "circuit_breaker.probe_lease_s must not be under the longest call that "
                "tollama.timeout_s, max_retries and backoff_max_s allow: no probe would end in time"
            )
        if self.environment is Environment.PROD and not self.security.require_tokens:
            raise ValueError("security.require_tokens must be true where environment is prod")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file; nothing else is read."""
        return env_settings, init_settings


def load_config(path: str | Path) -> Config:
    """The configuration in ``path`` with the environment's overrides.

    Relative paths inside the file are resolved against the folder that holds ``configs/``.

    Raises:
        ConfigError: the file is missing, is not YAML, repeats a key, or a value is out of bounds.
    """
    file = Path(path)
    values = read_yaml(file)
    _refuse_secrets(file, values)
    _refuse_unknown_overrides()
    try:
        config = Config(**values)
    except ValidationError as exc:
        raise ConfigError(f"{file}: {complaints(exc)}") from exc
    except SettingsError as exc:
        raise ConfigError(f"A {ENV_PREFIX} variable is not valid JSON ({exc})") from exc
    conformal = config.conformal
    if conformal.state_file is not None:
        state_file = _beside(file, conformal.state_file)
        conformal = conformal.model_copy(update={"state_file": state_file})
    found = {"models_file": _beside(file, config.models_file), "conformal": conformal}
    return config.model_copy(update=found)


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file; duplicate keys are refused.

    Raises:
        ConfigError: the file is missing, is not YAML, repeats a key, or is not a mapping.
    """
    try:
        values = yaml.load(file.read_text("utf-8"), Loader=_StrictLoader)
    except OSError as exc:
        raise ConfigError(f"{file}: cannot be read ({exc.strerror})") from exc
    except yaml.YAMLError as exc:
        raise ConfigError(f"{file}: {exc}") from exc
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: must hold a mapping of sections")
    return values


class _StrictLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; we refuse."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _refuse_secrets(file: Path, values: Mapping[str, Any]) -> None:
    for section, keys in Config.secret_keys.items():
        for key in keys:
            if key in (values.get(section) or {}):
                name = f"{ENV_PREFIX}{section}__{key}".upper()
                raise ConfigError(f"{file}: {section}.{key} is a secret; set {name} instead")


def _refuse_unknown_overrides() -> None:
    """pydantic-settings ignores variables of unknown sections; a typo would go unnoticed."""
    known = {name.upper() for name in Config.model_fields}
    for name in os.environ:
        if name.startswith(ENV_PREFIX) and "__" in name:
            section = name.removeprefix(ENV_PREFIX).partition("__")[0]
            if section.upper() not in known:
                raise ConfigError(f"{name}: there is no section {section.lower()!r}")


def complaints(exc: ValidationError) -> str:
    """Every complaint with its key, without the values: they may be secrets."""
    found = exc.errors(include_url=False, include_context=False, include_input=False)
    parts = (
        f"{'.'.join(map(str, e['loc'])) or 'config'}: {e['msg'].removeprefix('Value error, ')}"
        for e in found
    )
    return "; ".join(parts)


def _beside(config_file: Path, target: Path) -> Path:
    return target if target.is_absolute() else config_file.resolve().parent.parent / target
