"""Examples of the OpenAPI document: requests to copy, and what the service makes of them.

The bands are real answers of the embedded model and of the baseline to the first request, with
fewer digits; tests send every request and hold every answer against what the service gives today.
"""

from collections.abc import Mapping
from typing import Any

Example = Mapping[str, Any]

# The customer document's own example.
FORECAST: Example = {
    "market_id": "m-1",
    "as_of_ts": "2026-02-20T12:00:00Z",
    "freq": "5m",
    "horizon_steps": 12,
    "quantiles": [0.1, 0.5, 0.9],
    "y": [
        *(0.41, 0.42, 0.40, 0.43, 0.44, 0.45, 0.46, 0.45, 0.44, 0.43, 0.42, 0.41, 0.40, 0.41),
        *(0.42, 0.43, 0.44, 0.45, 0.46, 0.47, 0.48, 0.47, 0.46, 0.45, 0.44, 0.43, 0.42, 0.41),
        *(0.40, 0.41, 0.42, 0.43),
    ],
    "transform": {"space": "logit", "eps": 1e-6},
    "model": {"provider": "tollama", "model_name": "chronos", "params": {"temperature": 0.0}},
}

REQUESTS: Mapping[str, Example] = {
    "whole": {"summary": "Every usual field", "value": FORECAST},
    "short": {
        "summary": "As little as possible: too few points for a model, so the baseline answers",
        "value": {
            "market_id": "m-2",
            "as_of_ts": "2026-02-20T12:00:00Z",
            "y": [0.41, 0.42, None, 0.43, 0.44, 0.45],
        },
    },
    "covariates": {
        "summary": "Times, a gap, covariates, other levels, and calibrated paths",
        "value": {
            "market_id": "m-3",
            "as_of_ts": "2026-02-20T12:00:00Z",
            "freq": "1h",
            "horizon_steps": 2,
            "quantiles": [0.025, 0.5, 0.975],
            "y": [0.91, 0.92, 0.95, 0.94],
            "y_ts": [
                *("2026-02-20T08:00:00Z", "2026-02-20T09:00:00Z"),
                *("2026-02-20T11:00:00Z", "2026-02-20T12:00:00Z"),
            ],
            "x_past": {"volume": [120.0, 80.0, 400.0, 310.0]},
            "x_future": {"volume": [200.0, 200.0]},
            "max_gap_minutes": 180,
            "deadline_ms": 500,
            "conformal": True,
        },
    },
}

_HEAD: Example = {
    key: FORECAST[key] for key in ("market_id", "as_of_ts", "freq", "horizon_steps", "quantiles")
}
_MODEL_PATHS: Example = {
    "0.1": [
        *(0.4313, 0.4362, 0.4399, 0.4293, 0.4154, 0.4141),
        *(0.4068, 0.4064, 0.4004, 0.4008, 0.4005, 0.4079),
    ],
    "0.5": [
        *(0.4481, 0.4522, 0.4613, 0.4505, 0.4429, 0.4365),
        *(0.4304, 0.4278, 0.4275, 0.4271, 0.4334, 0.4397),
    ],
    "0.9": [
        *(0.4622, 0.469, 0.4775, 0.4738, 0.4768, 0.4687),
        *(0.4663, 0.4587, 0.4648, 0.4639, 0.4714, 0.4743),
    ],
}
_BASELINE_PATHS: Example = {
    "0.1": [
        *(0.4114, 0.4038, 0.3979, 0.3929, 0.3885, 0.3845),
        *(0.3809, 0.3775, 0.3743, 0.3713, 0.3684, 0.3657),
    ],
    "0.5": [0.43] * 12,
    "0.9": [
        *(0.4486, 0.4562, 0.4621, 0.4671, 0.4715, 0.4755),
        *(0.4791, 0.4825, 0.4857, 0.4887, 0.4916, 0.4943),
    ],
}
_META: Example = {
    "runtime": "tollama",
    "model_requested": "chronos",
    "model_name": "fracast-0",
    "model_version": "0.1.0",
    "input_len": 32,
    "gaps_filled": 0,
    "transform": FORECAST["transform"],
    "fallback_used": False,
    "fallback_reason": None,
    "warnings": ["model_params_dropped"],
    "cache_stale": False,
    "batch_size": 1,
    "queue_ms": 0.627,
    "runtime_ms": 127.661,
    "cache_hit": False,
    "cache_age_s": None,
    "circuit_breaker_state": "closed",
    "latency_ms": 220.582,
}
_BASELINE_META: Example = {
    key: value
    for key, value in _META.items()
    if key not in ("batch_size", "queue_ms", "runtime_ms")
} | {
    "runtime": "baseline",
    "model_name": "ewma",
    "model_version": None,
    "fallback_used": True,
    "fallback_reason": "breaker_open",
    "warnings": ["model_params_dropped", "fallback_breaker_open"],
    "circuit_breaker_state": "open",
    "latency_ms": 3.104,
}
_STALE: Example = {
    "fallback_used": True,
    "fallback_reason": "stale_if_error",
    "warnings": ["model_params_dropped", "fallback_runtime_timeout"],
    "cache_stale": True,
    "cache_hit": True,
    "cache_age_s": 71.2,
}
_UNCALIBRATED: Example = {
    "q10": None,
    "q50": None,
    "q90": None,
    "target_coverage": None,
    "sample_size": None,
    "segment": None,
}
MODEL_ANSWER: Example = {**_HEAD, "yhat_q": _MODEL_PATHS, "meta": _META}
BASELINE_ANSWER: Example = {**_HEAD, "yhat_q": _BASELINE_PATHS, "meta": _BASELINE_META}

ANSWERS: Mapping[str, Example] = {
    "model": {"summary": "The model's own bands", "value": MODEL_ANSWER},
    "fallback": {"summary": "The baseline's, and why", "value": BASELINE_ANSWER},
    "stale": {
        "summary": "The model's last ones, a little past their time",
        "value": {**MODEL_ANSWER, "meta": {**_META, **_STALE}},
    },
    "uncalibrated": {
        "summary": "Calibrated paths were asked for, and there is no calibration yet",
        "value": {
            **MODEL_ANSWER,
            "yhat_q_conformal": None,
            "conformal_last_step": _UNCALIBRATED,
            "meta": {**_META, "warnings": ["model_params_dropped", "conformal_uncalibrated"]},
        },
    },
}

OUTCOMES: Mapping[str, Example] = {
    "two": {
        "value": {
            "outcomes": [
                {"market_id": "m-1", "ts": "2026-02-20T12:05:00Z", "value": 0.44},
                {"market_id": "m-9", "ts": "2026-02-20T12:05:00Z", "value": 0.97},
            ]
        }
    }
}
OUTCOMES_ANSWERS: Mapping[str, Example] = {
    "one unknown": {
        "summary": "Nobody has asked for a forecast of m-9",
        "value": {"accepted": 2, "scored": 1, "unknown": 1, "points": 1},
    }
}
