"""Answers and errors as Python values. Fields that a newer service adds are left out.

Errors are sorted by who must act; docs/client.md explains how to handle each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.float64]

_STEP = {"m": "minutes", "h": "hours", "d": "days"}


class _FromWire:
    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """An instance from a JSON object; unknown fields are ignored."""
        names = {f.name for f in fields(cls)} & wire.keys()  # type: ignore[arg-type] # dataclasses
        return cls(**{k: tuple(wire[k]) if isinstance(wire[k], list) else wire[k] for k in names})


@dataclass(frozen=True, slots=True)
class Meta(_FromWire):
    """Source and history of the bands; docs/api.md explains each field."""

    runtime: str
    model_requested: str
    model_name: str
    model_version: str | None
    input_len: int
    gaps_filled: int
    transform: Mapping[str, Any]
    fallback_used: bool
    fallback_reason: str | None
    warnings: tuple[str, ...]
    cache_hit: bool
    cache_stale: bool
    circuit_breaker_state: str
    latency_ms: float
    cache_age_s: float | None = None
    batch_size: int | None = None
    queue_ms: float | None = None
    runtime_ms: float | None = None
    covariates_ignored: tuple[str, ...] | None = None  # None: the request has no covariates


@dataclass(frozen=True, slots=True)
class LastStep(_FromWire):
    """The calibrated band at the end of the horizon; None where there is no calibration."""

    q10: float | None
    q50: float | None
    q90: float | None
    target_coverage: float | None
    sample_size: int | None
    segment: str | None


@dataclass(frozen=True, slots=True)
class LearnedFigure(_FromWire):
    """A figure from the outcomes of earlier forecasts, and how many outcomes of which segment."""

    value: float
    sample_size: int
    segment: str


@dataclass(frozen=True, slots=True)
class Check(_FromWire):
    """The newest price against the band that was forecast without the newest steps.

    ``breach`` is none, above or below; ``severity`` none, breach (1 step), run or holds (12 steps).
    """

    price: float | None  # None: there is none in the newest step
    breach: str
    beyond_widths: float  # distance from the band in widths of the band
    run_steps: int
    severity: str
    p_value: LearnedFigure | None  # None: too few outcomes are known
    held_share: LearnedFigure | None  # of earlier breaches, after 11 more steps

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> "Check":
        """An instance from a JSON object; unknown fields are ignored."""
        learned = ("p_value", "held_share")
        figures = {k: wire[k] and LearnedFigure.from_wire(wire[k]) for k in learned}
        return super(Check, cls).from_wire({**wire, **figures})


@dataclass(frozen=True, slots=True)
class Model(_FromWire):
    """A model that the service may serve."""

    name: str
    runtime_name: str
    aliases: tuple[str, ...]
    version: str | None
    license: str
    license_tag: str
    max_series_per_call: int | None
    max_context: int | None
    params: tuple[str, ...]
    note: str | None
    installed: bool | None = None  # None: not known, as no runtime answers
    levels: tuple[float, ...] | None = None  # that it gives; None: any
    level_range: tuple[float, float] | None = None  # the outermost reliable ones; None: any
    covariates: str | None = None  # none, past or past_and_future; None: not known
    skill: float | None = None  # 1 - pinball loss / that of the baseline; None: not measured
    skill_source: str | None = None


class Forecast:
    """Bands for the next steps of one market.

    `paths` are ``(H, Q)`` probabilities, ordered and in [0, 1]; `levels` the Q levels, ascending;
    `conformal` the calibrated paths, if requested and available; `check` what the newest prices
    are, if `newest_steps` were asked for; `probability_above` ``(H,)`` values by threshold, if
    `thresholds` were; `wire` the answer as JSON.
    """

    def __init__(self, wire: Mapping[str, Any]) -> None:
        self.wire = wire
        self.market_id: str = wire["market_id"]
        self.as_of = datetime.fromisoformat(wire["as_of_ts"])
        self.freq: str = wire["freq"]
        self.levels: tuple[float, ...] = tuple(wire["quantiles"])
        self.paths = self._array(wire["yhat_q"])
        self.meta = Meta.from_wire(wire["meta"])
        calibrated, last = wire.get("yhat_q_conformal"), wire.get("conformal_last_step")
        self.conformal = None if calibrated is None else self._array(calibrated)
        self.conformal_last_step = None if last is None else LastStep.from_wire(last)
        above = wire.get("probability_above") or {}
        self.probability_above = {float(k): np.array(path) for k, path in above.items()}
        check = wire.get("check")
        self.check = None if check is None else Check.from_wire(check)

    @property
    def times(self) -> tuple[datetime, ...]:
        """The time of each of the H steps."""
        step = timedelta(**{_STEP[self.freq[-1]]: int(self.freq[:-1])})
        return tuple(self.as_of + step * (i + 1) for i in range(len(self.paths)))

    def path(self, level: float) -> FloatArray:
        """``(H,)`` values of one level; KeyError if it was not requested."""
        if level not in self.levels:
            raise KeyError(level)
        path: FloatArray = self.paths[:, self.levels.index(level)]
        return path

    def __repr__(self) -> str:
        source = self.meta.fallback_reason or self.meta.runtime
        steps, levels = self.paths.shape
        return f"<Forecast {self.market_id}: {steps} steps, {levels} levels, {source}>"

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each step, a column for each level; pandas has to be installed."""
        import pandas as pd

        return pd.DataFrame(self.paths, index=pd.DatetimeIndex(self.times), columns=self.levels)

    def _array(self, by_level: Mapping[str, Any]) -> FloatArray:
        paths = {float(level): path for level, path in by_level.items()}
        return np.array([paths[level] for level in self.levels], dtype=np.float64).T


class ClientError(Exception):
    """Root of every error that the client raises on purpose."""


class UnreachableError(ClientError):
    """No connection, a broken one, or an answer that is not from the service."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(url, why)

    def __str__(self) -> str:
        return "The service at {} cannot be reached: {}.".format(*self.args)


class ServiceError(ClientError):
    """An answer that is an error; for one request of a batch it has no status and no id."""

    def __init__(
        self, status: int, error: Mapping[str, Any], retry_after_s: float | None = None
    ) -> None:
        super().__init__(status, error, retry_after_s)
        self.status, self.retry_after_s = status, retry_after_s
        self.code, self.message = str(error["code"]), str(error["message"])
        self.detail: tuple[Mapping[str, str], ...] = tuple(error.get("detail", ()))
        self.request_id: str = error.get("request_id", "")

    def __str__(self) -> str:
        where = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.code}: {self.message}{where}"


class RequestRefusedError(ServiceError):
    """The request is not valid, or not accepted now."""


class ServiceFailedError(ServiceError):
    """The service failed."""


def service_error(
    status: int, error: Mapping[str, Any], retry_after_s: float | None = None
) -> ServiceError:
    """The error of an answer's ``error`` object."""
    kind = ServiceFailedError if status >= 500 else RequestRefusedError
    return kind(status, error, retry_after_s)
