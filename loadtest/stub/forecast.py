"""The stand-in's forecast: a random walk that starts at the last value, in tollama's answer form.

Cheap on purpose: it shares the cores with the service that is measured.
"""

import math
import resource
from collections.abc import Iterator, Mapping
from functools import lru_cache
from statistics import NormalDist
from typing import Any

from loadtest.stub.contract import covariate_kind

# tollama keeps one model process and one lock per family; unknown models are a family of their own
FAMILIES = {"chronos2": "torch", "granite-ttm-r2": "torch", "timesfm-2.5-200m": "timesfm"} | {
    "moirai-2.0-R-small": "uni2ts",
    "sundial-base-128m": "sundial",
    "toto-open-base-1.0": "toto",
    "lag-llama": "lag_llama",
}
_Z = lru_cache(maxsize=4096)(NormalDist().inv_cdf)
_PATTERNS = ["mean forecast is relatively flat", "forecast is monotonic increasing"]


def family_of(model: str) -> str:
    return FAMILIES.get(model, model)


def answer(request: Mapping[str, Any], inference_ms: float, total_ms: float) -> dict[str, Any]:
    """The whole body of a 200, every series in the order it was sent."""
    series, horizon, model = request["series"], request["horizon"], request["model"]
    levels = tuple(request.get("quantiles") or ())
    warnings = [text for one in series for text in _covariate_warnings(one, model)]
    return {
        "model": model,
        "forecasts": [forecast(one, horizon, levels) for one in series],
        "metrics": None,
        "timing": {"model_load_ms": 0.0, "inference_ms": inference_ms, "total_ms": total_ms},
        "explanation": {"series": [_explanation(one["id"], bool(levels)) for one in series]},
        "narrative": None,
        "preprocessing": None,
        "usage": _usage(horizon, model, len(series)),
        "warnings": warnings or None,
    }


def forecast(series: Mapping[str, Any], horizon: int, levels: tuple[float, ...]) -> dict[str, Any]:
    """One series' forecast: its last value, widened by its own increments.

    The level ``q`` at step ``h`` is ``last + z_q * s * sqrt(h)``, with ``s`` the root mean square
    of the increments. Keys are in ``%g`` form, so levels closer than six digits share one.
    """
    target = series["target"]
    last, spread = target[-1], _step_spread(target)
    roots = _roots(horizon)
    return {
        "id": series["id"],
        "freq": _freq(series),
        "start_timestamp": series["timestamps"][-1],
        "mean": [last] * horizon,
        "quantiles": {f"{q:g}": _path(last, spread * _Z(q), roots) for q in levels} or None,
    }


def _path(last: float, scale: float, roots: list[float]) -> list[float]:
    return [last + scale * root for root in roots]


def _step_spread(target: list[float]) -> float:
    """The root mean square of the increments; ``math.dist`` does the sum in C."""
    steps = len(target) - 1
    return math.dist(target[1:], target[:-1]) / math.sqrt(steps) if steps else 0.0


@lru_cache(maxsize=64)
def _roots(horizon: int) -> list[float]:
    return [math.sqrt(step) for step in range(1, horizon + 1)]


def _freq(series: Mapping[str, Any]) -> str:
    freq = str(series.get("freq", "auto"))
    return "5min" if freq == "auto" else freq  # the real one infers it from the timestamps


def _usage(horizon: int, model: str, count: int) -> dict[str, Any]:
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "horizon": horizon,
        "runner": f"tollama-{family_of(model)}",
        "series_count": count,
        "device": "unknown",
        "peak_memory_mb": round(peak_mb, 3),
    }


def _explanation(series_id: str, has_levels: bool) -> dict[str, Any]:
    spread = "high confidence (tight quantile spread)"
    return {
        "id": series_id,
        "trend_direction": "flat",
        "confidence_assessment": spread if has_levels else "quantile uncertainty unavailable",
        "historical_comparison": "forecast mean is close to historical mean",
        "notable_patterns": _PATTERNS,
    }


def _covariate_warnings(series: Mapping[str, Any], model: str) -> Iterator[str]:
    """``mock`` takes no covariates: it drops them and says so; the other models take them."""
    past = series.get("past_covariates")
    if model != "mock" or not past:
        return
    future = series.get("future_covariates") or {}
    for name in sorted(past):
        reach = "known-future" if name in future else "past-only"
        yield (
            f"ignoring unsupported covariate: model {model!r} (family={family_of(model)}) does not "
            f"support {reach} {covariate_kind(past[name])} covariates; "
            f"series={series['id']!r} covariate={name!r}"
        )
