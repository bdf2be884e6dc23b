"""The stand-in's forecast: a random walk that starts at the last value, in tollama's answer form.

Cheap on purpose: it shares the cores with the service that is measured.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from statistics import NormalDist
from typing import Any

# tollama has one process and one lock for each family; other models are families of their own
FAMILIES = {"chronos2": "torch", "granite-ttm-r2": "torch"}
_Z = lru_cache(maxsize=4096)(NormalDist().inv_cdf)
_EXPLANATION = {
    "trend_direction": "flat",
    "confidence_assessment": "high confidence (tight quantile spread)",
    "historical_comparison": "forecast mean is close to historical mean",
    "notable_patterns": ["mean forecast is relatively flat", "forecast is monotonic increasing"],
}


def family_of(model: str) -> str:
    return FAMILIES.get(model, model)


def answer(request: Mapping[str, Any], inference_ms: float) -> dict[str, Any]:
    """The whole body of a 200, every series in the order it was sent."""
    series, horizon, model = request["series"], request["horizon"], request["model"]
    levels = tuple(request.get("quantiles") or ())
    timing = {"model_load_ms": 0.0, "inference_ms": inference_ms, "total_ms": inference_ms}
    usage = {"horizon": horizon, "runner": f"tollama-{family_of(model)}"}
    return {
        "model": model,
        "forecasts": [forecast(one, horizon, levels) for one in series],
        "metrics": None,
        "timing": timing,
        "explanation": {"series": [{"id": one["id"], **_EXPLANATION} for one in series]},
        "narrative": None,
        "preprocessing": None,
        "usage": usage | {"series_count": len(series), "device": "unknown", "peak_memory_mb": 90.0},
        "warnings": [text for one in series for text in _ignored(one, model)] or None,
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
        "freq": series.get("freq", "5min"),  # the real one infers it where it is missing
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


def _ignored(series: Mapping[str, Any], model: str) -> list[str]:
    """``mock`` takes no covariates: it drops them and says so; the other models take them."""
    known_ahead = set(series.get("future_covariates") or ())
    return [
        f"ignoring unsupported covariate: model {model!r} (family={family_of(model)}) does not "
        f"support {'known-future' if name in known_ahead else 'past-only'} numeric covariates; "
        f"series={series['id']!r} covariate={name!r}"
        for name in sorted(series.get("past_covariates") or ())
        if model == "mock"
    ]
