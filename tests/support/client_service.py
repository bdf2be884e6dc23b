"""A service that answers the client from memory."""

from typing import Any

import httpx
import orjson

META = {
    "runtime": "baseline",
    "model_requested": "chronos",
    "model_name": "ewma",
    "model_version": None,
    "input_len": 3,
    "gaps_filled": 0,
    "transform": {"space": "logit", "eps": 1e-6},
    "fallback_used": True,
    "fallback_reason": "too_few_points",
    "warnings": ["fallback_too_few_points"],
    "cache_stale": False,
    "cache_hit": False,
    "cache_age_s": None,
    "circuit_breaker_state": "closed",
    "latency_ms": 1.5,
}


def answer_to(request: httpx.Request) -> httpx.Response:
    """Two flat steps at the last value, for a forecast or each of a batch."""
    body = orjson.loads(request.content)
    if request.url.path == "/tsfm/forecast":
        return httpx.Response(200, content=orjson.dumps(forecast_of(body)))
    items = ({"index": i, "ok": forecast_of(b)} for i, b in enumerate(body["requests"]))
    return httpx.Response(200, content=b"\n".join(map(orjson.dumps, items)))


def forecast_of(body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request, as decoded JSON."""
    y, levels = body["y"], body.get("quantiles", [0.1, 0.5, 0.9])
    return {
        "market_id": body["market_id"],
        "as_of_ts": body["as_of_ts"],
        "freq": body.get("freq", "5m"),
        "horizon_steps": 2,
        "quantiles": levels,
        "yhat_q": {str(level): [y[-1] + (level - 0.5) / 20] * 2 for level in levels},
        "meta": META,
    }
