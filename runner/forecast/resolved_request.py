"""Resolves a request before anything is sent. Pure functions.

    observations   -> `regularise`: the grid that ends at ``as_of_ts``, gaps filled and counted
    series, model  -> `ineligible_reason`: why the model cannot be asked, or None
    request        -> `resolve_request`: a `ResolvedRequest` with its batch key and cache key

The model gets the filled grid; eligibility depends on the observations.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from runner.baseline.ewma_bands import BaselineRequest
from runner.config.loading import Config
from runner.config.registry import ModelEntry, Params, Registry
from runner.config.sections import FallbackSection
from runner.types import (
    BatchKey,
    FallbackReason,
    FloatArray,
    ForecastRequest,
    ModelRequest,
    Priority,
)

TOLERANCE_S = 1e-3  # time stamps are written to the millisecond at best


@dataclass(frozen=True, slots=True, eq=False)
class RegularSeries:
    """The last T steps of a market, one value a step."""

    y_prob: FloatArray  # (T,), finite: the last known value is carried forward over gaps
    observed_prob: FloatArray  # (T,), NaN where a step has no observation
    x_past: Mapping[str, FloatArray]  # covariates that the model uses, on this grid, each (T,)
    points: int  # number of steps with an observation
    longest_gap_minutes: float  # the longest stretch of steps without an observation

    @property
    def gaps_filled(self) -> int:
        """Number of steps that were filled forward."""
        return self.observed_prob.size - self.points


def regularise(
    y_prob: FloatArray,
    y_ts: FloatArray | None,
    x_past: Mapping[str, FloatArray],
    step_s: int,
    max_steps: int,
) -> RegularSeries:
    """At most ``max_steps`` steps of ``step_s`` seconds that end at the last time."""
    window = y_prob[-max_steps:]
    if y_ts is None and not np.isnan(window).any():  # the usual case: nothing to fill
        covariates = {name: x[-max_steps:] for name, x in x_past.items()}
        return RegularSeries(window, window, covariates, window.size, 0.0)
    times = np.arange(y_prob.size, dtype=np.float64) * step_s if y_ts is None else y_ts
    first = int(np.argmax(np.isfinite(y_prob)))  # nothing to carry forward before the first value
    times, values = times[first:], y_prob[first:]
    steps = min(max_steps, int((times[-1] - times[0]) // step_s) + 1)
    grid = times[-1] - step_s * np.arange(steps - 1, -1, -1, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(values))
    last = np.searchsorted(times[known], grid + TOLERANCE_S, side="right") - 1
    taken = known[last]  # (T,) index of the newest value at or before each step
    observed = times[taken] > grid - step_s + TOLERANCE_S
    y = values[taken]
    beside = np.searchsorted(times, grid + TOLERANCE_S, side="right") - 1
    covariates = {name: x[first:][beside] for name, x in x_past.items()}
    edges = np.flatnonzero(np.concatenate(([True], observed, [True])))
    longest_gap_minutes = float((np.diff(edges).max() - 1) * step_s / 60.0)
    observed_prob, points = np.where(observed, y, np.nan), int(observed.sum())
    return RegularSeries(y, observed_prob, covariates, points, longest_gap_minutes)


def ineligible_reason(
    request: ForecastRequest,
    series: RegularSeries,
    entry: ModelEntry,
    params: Params,
    settings: FallbackSection,
) -> FallbackReason | None:
    """Why the baseline must answer for this series, or None when the model may.

    Source: customer document, Stage 6 (fallback triggers) and "Defaults (v0)".
    """
    if request.liquidity_bucket in settings.baseline_only_liquidity:
        return FallbackReason.LOW_LIQUIDITY
    if series.longest_gap_minutes > request.max_gap_minutes:
        return FallbackReason.GAP_TOO_LONG
    if series.points < settings.min_points_for_tsfm:
        return FallbackReason.TOO_FEW_POINTS
    if not entry.gives(request.levels, params):
        return FallbackReason.LEVELS_NOT_SUPPORTED
    return None


class InputWarning(StrEnum):
    """What was dropped or filled in the input; the values are warnings in ``meta``."""

    PARAMS_DROPPED = "model_params_dropped"
    VERSION_NOT_SELECTABLE = "model_version_not_selectable"
    GAPS_FILLED = "gaps_filled"
    HORIZON_CUT = "horizon_cut_at_close"


@dataclass(frozen=True, slots=True, eq=False)
class ResolvedRequest:
    """One request, resolved: which model, on which series, under which cache key."""

    request: ForecastRequest
    entry: ModelEntry
    series: RegularSeries
    key: BatchKey
    ineligible_reason: FallbackReason | None  # why the model must not be asked
    cache_key: bytes  # equal for requests that must get the same bands
    x_future: Mapping[str, FloatArray]  # that the model uses, each (H,)
    warnings: tuple[str, ...]  # values of `InputWarning`

    def for_model(self, budget_s: float, priority: Priority) -> ModelRequest:
        """The item for the Runner; ``budget_s`` is the time left."""
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
            x_future=self.x_future,
        )

    def for_baseline(self) -> BaselineRequest:
        """The item for the baseline; a window with fewer than two observations is sent filled."""
        series, request = self.series, self.request
        y_prob = series.observed_prob if series.points >= 2 else series.y_prob
        return BaselineRequest(y_prob, request.horizon_steps, request.levels, request.transform)


def resolve_request(
    request: ForecastRequest, registry: Registry, config: Config
) -> ResolvedRequest:
    """Resolves ``request`` in this environment.

    Raises:
        UnknownModelError: no model of this name.
        ModelNotAllowedError: the environment may not serve the model.
    """
    entry = registry.resolve(request.model_name, config.environment)
    steps = min(config.request.input_len_steps, entry.max_context or config.request.max_points)
    x_past, x_future = entry.takes(request.x_past, request.x_future)
    series = regularise(request.y_prob, request.y_ts, x_past, request.step_s, max_steps=steps)
    params = entry.filter_params(request.params)
    key = BatchKey(entry.runtime_name, request.horizon_steps, request.levels, params)
    return ResolvedRequest(
        request=request,
        entry=entry,
        series=series,
        key=key,
        ineligible_reason=ineligible_reason(request, series, entry, params, config.fallback),
        cache_key=_digest(key, series, x_future, request),
        x_future=x_future,
        warnings=_warnings(request, entry, series, len(params) < len(request.params)),
    )


def _digest(
    key: BatchKey,
    series: RegularSeries,
    x_future: Mapping[str, FloatArray],
    request: ForecastRequest,
) -> bytes:
    """A hash of everything that changes the bands; the market's name does not."""
    digest = hashlib.blake2b(digest_size=16)
    transform, end_ts = request.transform, request.as_of.timestamp()
    digest.update(
        f"{key.model}|{key.horizon_steps}|{key.levels}|{key.params}|{request.step_s}|{end_ts}"
        f"|{transform.space.value}|{transform.eps}".encode()
    )
    _add(digest, "y", series.y_prob)
    for kind, covariates in (("past", series.x_past), ("future", x_future)):
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
        InputWarning.HORIZON_CUT: request.is_cut,
    }
    return tuple(notice.value for notice, holds in found.items() if holds)
