"""What a request asks of the model, worked out before anything is sent: a pure function."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from runner.baseline.requests import BaselineRequest
from runner.config.loading import Config
from runner.config.registry import ModelEntry, Registry
from runner.forecast.eligibility import ineligible_reason
from runner.forecast.series import RegularSeries, regularise
from runner.types import (
    BatchKey,
    FallbackReason,
    FloatArray,
    ForecastRequest,
    ModelRequest,
    Priority,
)


class InputWarning(StrEnum):
    """What was dropped or filled on the way in; the values are warnings in ``meta``."""

    PARAMS_DROPPED = "model_params_dropped"
    VERSION_NOT_SELECTABLE = "model_version_not_selectable"
    GAPS_FILLED = "gaps_filled"


@dataclass(frozen=True, slots=True, eq=False)
class ResolvedRequest:
    """One request, resolved: which model, on which series, under which cache key.

    Attributes:
        unsuited: why the model is not asked at all, or None.
        cache_key: equal for requests that must get the same bands.
        warnings: what was dropped or filled on the way in.
    """

    request: ForecastRequest
    entry: ModelEntry
    series: RegularSeries
    key: BatchKey
    ineligible_reason: FallbackReason | None
    cache_key: bytes
    warnings: tuple[str, ...]

    def for_model(self, budget_s: float, priority: Priority) -> ModelRequest:
        """The item that goes to the runner, with what is left of its time."""
        request = self.request
        return ModelRequest(
            key=self.key,
            y_prob=self.series.y_prob,
            transform=request.transform,
            end_ts=request.as_of.timestamp(),
            step_s=request.step_s,
            budget_s=budget_s,
            cache_key=self.cache_key,
            priority=priority,
            x_past=self.series.x_past,
            x_future=request.x_future,
        )

    def for_baseline(self) -> BaselineRequest:
        """The item that goes to the baseline; a window with too little in it goes filled."""
        series, request = self.series, self.request
        y_prob = series.observed_prob if series.points >= 2 else series.y_prob
        return BaselineRequest(y_prob, request.horizon_steps, request.levels, request.transform)


def resolve_request(
    request: ForecastRequest, registry: Registry, config: Config
) -> ResolvedRequest:
    """The plan of ``request`` in this environment.

    Raises:
        UnknownModelError: nothing is registered under the name.
        ModelNotAllowedError: the environment may not serve the model.
    """
    entry = registry.resolve(request.model_name, config.environment)
    steps = min(config.request.input_len_steps, entry.max_context or config.request.max_points)
    series = regularise(
        request.y_prob, request.y_ts, request.x_past, request.step_s, max_steps=steps
    )
    params, dropped = entry.filter_params(request.params)
    key = BatchKey(entry.runtime_name, request.horizon_steps, request.levels, params)
    return ResolvedRequest(
        request=request,
        entry=entry,
        series=series,
        key=key,
        ineligible_reason=ineligible_reason(request, series, entry, config.fallback),
        cache_key=_digest(key, series, request),
        warnings=_warnings(request, entry, series, bool(dropped)),
    )


def _digest(key: BatchKey, series: RegularSeries, request: ForecastRequest) -> bytes:
    """A hash of everything that shapes the bands; the market's name does not."""
    digest = hashlib.blake2b(digest_size=16)
    transform, end_ts = request.transform, request.as_of.timestamp()
    digest.update(
        f"{key.model}|{key.horizon_steps}|{key.levels}|{key.params}|{request.step_s}|{end_ts}"
        f"|{transform.space.value}|{transform.eps}".encode()
    )
    _add(digest, "y", series.y_prob)
    for kind, covariates in (("past", series.x_past), ("future", request.x_future)):
        for name in sorted(covariates):
            _add(digest, f"{kind}:{name!r}", covariates[name])
    return digest.digest()


def _add(digest: "hashlib.blake2b", name: str, values: FloatArray) -> None:
    digest.update(f"{name}:{values.size}:".encode())
    digest.update(values.tobytes())


def _warnings(
    request: ForecastRequest, entry: ModelEntry, series: RegularSeries, params_dropped: bool
) -> tuple[str, ...]:
    version = request.model_version
    found = {
        InputWarning.PARAMS_DROPPED: params_dropped,
        InputWarning.VERSION_NOT_SELECTABLE: version is not None and version != entry.version,
        InputWarning.GAPS_FILLED: series.gaps_filled > 0,
    }
    return tuple(notice.value for notice, holds in found.items() if holds)
