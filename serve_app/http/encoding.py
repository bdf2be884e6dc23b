"""The answer as bytes: encoded once, with a tail that is written for every request.

The fields that differ between requests are last in ``meta``, so that a cached answer is neither
parsed nor encoded again.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from runner.calibration.conformal import Adjusted
from runner.forecast.answers import Forecast
from runner.types import BASELINE_MODEL, BreakerState, FloatArray, Source
from serve_app.http.requests import format_level, iso

LAST_STEP_LEVELS = {"q10": 0.1, "q50": 0.5, "q90": 0.9}  # specification, Stage 5
LAST_STEP_FIELDS = (*LAST_STEP_LEVELS, "target_coverage", "sample_size", "segment")
_BODY = b'%b"cache_hit":%b,"cache_age_s":%b,"circuit_breaker_state":"%b","latency_ms":%.3f}}'


def render(
    head: bytes, breaker_state: BreakerState, latency_ms: float, cache_age_s: float | None
) -> bytes:
    """The whole body; ``cache_age_s`` is None for an answer that is not from the cache."""
    return _BODY % (
        head,
        b"false" if cache_age_s is None else b"true",
        b"null" if cache_age_s is None else b"%.3f" % cache_age_s,
        breaker_state.encode(),
        latency_ms,
    )


def encode(forecast: Forecast) -> bytes:
    """The head of the body: paths, and the fields of ``meta`` that any request gets alike."""
    request = forecast.resolved.request
    body = {
        "market_id": request.market_id,
        "as_of_ts": iso(request.as_of),
        "freq": request.freq,
        "horizon_steps": request.horizon_steps,
        "quantiles": request.levels,
        "yhat_q": _by_level(forecast.bands.y_prob, request.levels),
        **(_calibrated(forecast.conformal, request.levels) if forecast.conformal_asked else {}),
        "meta": _meta(forecast),
    }
    encoded = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return encoded[:-2] + b","  # without "}}", which closes meta and body


def _by_level(y_prob: FloatArray, levels: Sequence[float]) -> dict[str, FloatArray]:
    paths = np.ascontiguousarray(y_prob.T)  # (Q, H)
    return {format_level(level): paths[i] for i, level in enumerate(levels)}


def _calibrated(adjusted: Adjusted | None, levels: Sequence[float]) -> dict[str, Any]:
    """The calibrated paths and a summary of their last step; nulls without a calibration."""
    last: dict[str, Any] = dict.fromkeys(LAST_STEP_FIELDS)
    if adjusted is None:
        return {"yhat_q_conformal": None, "conformal_last_step": last}
    path = adjusted.paths[0]
    at_end = dict(zip(levels, path[-1].tolist(), strict=True))
    last |= {name: at_end.get(level) for name, level in LAST_STEP_LEVELS.items()}
    last |= {
        "target_coverage": adjusted.target_coverage,
        "sample_size": adjusted.sample_size,
        "segment": adjusted.segment_used,
    }
    return {"yhat_q_conformal": _by_level(path, levels), "conformal_last_step": last}


def _meta(forecast: Forecast) -> dict[str, Any]:
    resolved, model = forecast.resolved, forecast.model
    is_baseline = forecast.source is Source.BASELINE
    meta: dict[str, Any] = {
        "runtime": forecast.source.value,
        "model_requested": resolved.request.model_name,
        "model_name": BASELINE_MODEL if is_baseline else resolved.entry.runtime_name,
        "model_version": None if is_baseline else resolved.entry.version,
        "input_len": resolved.series.y_prob.size,
        "gaps_filled": resolved.series.gaps_filled,
        "transform": {
            "space": resolved.request.transform.space,
            "eps": resolved.request.transform.eps,
        },
        "fallback_used": forecast.fallback_reason is not None,
        "fallback_reason": forecast.fallback_reason,
        "warnings": forecast.warnings,
        "cache_stale": forecast.cache_stale,
    }
    if model is not None:
        meta["batch_size"] = model.batch_size
        meta["queue_ms"] = round(model.queue_ms, 3)
        meta["runtime_ms"] = round(model.runtime_ms, 3)
    return meta
