"""Values used by several packages: requests, model items, answers and their enums.

Axes have one letter and one order everywhere: B series, T past steps, H future steps, Q quantile
levels. Arrays are ``(B, H, Q)`` with missing axes dropped. Times are POSIX seconds, UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ParamValue = str | int | float | bool | None
MIN_EPS = 1e-12  # 1 - eps must stay clear of 1, where log-odds end: doubles are 1e-16 apart there
BASELINE_MODEL = "ewma"  # the baseline's name in answers and in calibration


class Space(StrEnum):
    """The space of the model's values: log-odds, or probabilities unchanged."""

    LOGIT = "logit"
    IDENTITY = "identity"


class Source(StrEnum):
    """What produced a band."""

    MODEL = "tollama"
    BASELINE = "baseline"


class FallbackReason(StrEnum):
    """Why an answer is not a fresh one of the model; documented in docs/api.md."""

    TOO_FEW_POINTS = "too_few_points"
    LOW_LIQUIDITY = "low_liquidity"
    GAP_TOO_LONG = "gap_too_long"
    LEVELS_NOT_SUPPORTED = "levels_not_supported"
    ROUTED_BY_SKILL = "routed_by_skill"
    ROUTED_BY_COVERAGE = "routed_by_coverage"
    PINNED_TO_BASELINE = "pinned_to_baseline"
    BREAKER_OPEN = "breaker_open"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    OVERLOADED = "overloaded"
    RUNTIME_TIMEOUT = "runtime_timeout"
    RUNTIME_UNREACHABLE = "runtime_unreachable"
    RUNTIME_OVERLOADED = "runtime_overloaded"
    RUNTIME_REJECTED = "runtime_rejected"
    RUNTIME_UNAUTHORIZED = "runtime_unauthorized"
    RUNTIME_ERROR = "runtime_error"
    MODEL_NOT_INSTALLED = "model_not_installed"
    BAD_OUTPUT = "bad_output"
    RUNNER_UNAVAILABLE = "runner_unavailable"
    STALE_IF_ERROR = "stale_if_error"


class BreakerState(StrEnum):
    """The state of a model's breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"


class BreakerCommand(StrEnum):
    """An operator's command; the forced ones are named after the resulting state."""

    FORCE_OPEN = "force_open"
    FORCE_CLOSED = "force_closed"
    RESET = "reset"


class Priority(StrEnum):
    """Whether a person or an alert waits for a forecast, or a bulk job, which is shed first."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Transform:
    """The space of a modelled series; ``eps`` keeps log-odds finite, MIN_EPS <= eps < 0.5."""

    space: Space
    eps: float


@dataclass(frozen=True, slots=True, eq=False)
class ForecastRequest:
    """A caller's request, checked, with all defaults."""

    market_id: str
    as_of: datetime
    freq: str
    step_s: int
    horizon_steps: int
    levels: tuple[float, ...]  # ascending inside (0, 1)
    y_prob: FloatArray  # (N,) in [0, 1], NaN where there is no value; two or more are finite
    y_ts: FloatArray | None  # (N,) strictly increasing POSIX seconds ending at as_of
    x_past: Mapping[str, FloatArray]  # covariates, each (N,)
    x_future: Mapping[str, FloatArray]  # each (H,); every name is also in x_past
    transform: Transform
    model_name: str
    model_version: str | None
    params: Mapping[str, ParamValue]
    liquidity_bucket: str | None
    max_gap_minutes: float
    conformal: bool | None = None  # calibrated bands wanted; None: as configured
    width_limits: Mapping[str, float] = field(default_factory=dict)  # instead of those in `bands`
    observe: bool = True  # False: not learned from, and counted apart
    newest_prob: FloatArray = field(default_factory=lambda: np.empty(0))  # (n,) after as_of
    thresholds: tuple[float, ...] = ()  # inside (0, 1): the probability above each is wanted
    closes_at: float | None = None  # POSIX seconds: no step of the horizon is later
    is_cut: bool = False  # more steps were asked for than there are before the close

    @property
    def closes_in_s(self) -> float | None:
        """Seconds from ``as_of`` to the close, if that is known."""
        return None if self.closes_at is None else self.closes_at - self.as_of.timestamp()


@dataclass(frozen=True, slots=True, eq=False)
class ModelSeries:
    """One series for the runtime: on a regular grid, gaps filled."""

    y: FloatArray  # (T,) finite values in model space (log-odds or probability)
    end_ts: float  # time of the last value
    step_s: int
    x_past: Mapping[str, FloatArray] = field(default_factory=dict)  # covariates, each (T,)
    x_future: Mapping[str, FloatArray] = field(default_factory=dict)  # known ahead, each (H,)


@dataclass(frozen=True, slots=True, eq=False)
class RuntimeForecast:
    """A runtime's forecast of one series."""

    paths: FloatArray  # (H, Q) in model space
    notices: tuple[str, ...] = ()  # what the runtime said about it, as codes
    covariates_ignored: tuple[str, ...] = ()  # names, as the runtime gave them


@dataclass(frozen=True, slots=True)
class RuntimeUsage:
    """What a runtime says about one call; None where it does not."""

    inference_ms: float | None = None
    peak_memory_mb: float | None = None  # MiB, of the model's process since it started


@dataclass(frozen=True, slots=True)
class BatchKey:
    """What series must have in common to share a runtime call."""

    model: str  # its name in the runtime
    horizon_steps: int
    levels: tuple[float, ...]  # ascending inside (0, 1)
    params: tuple[tuple[str, ParamValue], ...] = ()  # allowed model options, sorted by name


@dataclass(frozen=True, slots=True, eq=False)
class ModelRequest:
    """One item for the model: what to forecast and how long it may take."""

    key: BatchKey
    y_prob: FloatArray  # (T,), finite, in [0, 1]
    transform: Transform
    end_ts: float
    step_s: int
    budget_s: float  # until the deadline, from the moment of sending: clocks of machines differ
    cache_key: bytes  # equal for requests that must get the same bands
    priority: Priority = Priority.INTERACTIVE
    x_past: Mapping[str, FloatArray] = field(default_factory=dict)
    x_future: Mapping[str, FloatArray] = field(default_factory=dict)
    trace: str | None = None  # W3C traceparent of the waiting request, if tracing is on


@dataclass(frozen=True, slots=True, eq=False)
class Bands:
    """Quantile paths ``(H, Q)`` that can be sent: finite, ordered, in [0, 1]."""

    y_prob: FloatArray
    corrections: tuple[str, ...] = ()  # the name of each kind of change
    before_limits: FloatArray | None = None  # (H, Q); None: the width limits changed nothing

    @property
    def unlimited(self) -> FloatArray:
        """The paths before the width limits."""
        return self.y_prob if self.before_limits is None else self.before_limits


@dataclass(frozen=True, slots=True, eq=False)
class ModelAnswer:
    """The Runner's answer for one item: bands, and figures of the call."""

    bands: Bands
    breaker_state: BreakerState
    batch_size: int
    queue_ms: float
    runtime_ms: float
    age_s: float | None = None  # its age if it came from the Runner's cache; None: fresh
    notices: tuple[str, ...] = ()  # of the runtime, as codes
    covariates_ignored: tuple[str, ...] = ()  # as the runtime named them


@dataclass(frozen=True, slots=True)
class ModelFailure:
    """Why the Runner has no bands for one item; a further call fails too for ``retry_in_s``."""

    reason: FallbackReason
    breaker_state: BreakerState
    retry_in_s: float = 0.0
