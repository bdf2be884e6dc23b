"""What ``GET /tsfm/status`` says on a day with an outage, for tests of how it is shown."""

import math
from typing import Any

from runner.config.sections import Environment
from serve_app.http.responses import models_answer
from serve_app.http.status_endpoint import StatusAnswer
from tests.support.builders import make_registry

NOW = 1_771_588_800  # 2026-02-20T12:00:00Z


def make_status(**changes: Any) -> dict[str, Any]:
    values = {
        "version": "0.1.0",
        "environment": "dev",
        "uptime_s": 5400,
        "scope": "replica",
        "window_s": 300,
        "requests": {
            "total": 4312,
            "rate_per_s": 14.4,
            "fallback_share": 0.031,
            "cache_hit_share": 0.42,
            "p50_ms": 48.2,
            "p95_ms": 187.0,
        },
        "history": [_moment(i) for i in range(30)],
        "fallback_reasons": {"runtime_unreachable": 88, "breaker_open": 40, "too_few_points": 6},
        "queue": {"in_flight": 7, "waiting": 31, "shed_above": 256, "refuse_above": 768},
        "breakers": [
            {"model": "fracast-0", "state": "closed", "next_probe_in_s": None},
            {"model": "chronos2", "state": "open", "next_probe_in_s": 74.2},
        ],
        "replicas": {"Ingress": 1, "Runner": 2, "Baseline": 1},
        "coverage": [
            _covered("fracast-0", "all", 0.812, 1240, 0.061),
            _covered("ewma", "width:0.03..0.1", 0.774, 312, 0.054),
        ],
        "skill": [_skill("all", -0.2, "worse"), _skill("activity=few|price=edge|freq=5m", 0.1)],
        "sources": [
            _source("fracast-0", "drop", 0.58, "under"),
            _source("ewma", None, 0.81, None),
        ],
        "models": models_answer(make_registry().served(Environment.DEV)).models,
    }
    return StatusAnswer.model_validate(values | changes).model_dump(mode="json")


def _moment(i: int) -> dict[str, Any]:
    return {
        "t": NOW - 300 + 10 * i,
        "requests": 140,
        "fallbacks": 40 if 18 <= i < 23 else 2,
        "p50_ms": 45 + 8 * math.sin(i / 3),
        "p95_ms": 150 + 60 * math.sin(i / 4),
    }


def _skill(segment: str, skill: float, verdict: str = "undecided") -> Any:
    figures = ("coverage", "interval_score", "brier")
    names = [*figures, *(f"baseline_{figure}" for figure in figures), "pinned"]
    known = {"skill": skill, "skill_low": skill - 0.1, "skill_high": skill + 0.1}
    found = {"model": "fracast-0", "segment": segment, "forecasts": 91, **known}
    routed = {"routed": verdict == "worse", "routed_by": "skill" if verdict == "worse" else None}
    return dict.fromkeys(names) | found | {"verdict": verdict} | routed


def _source(name: str, advice: str | None, coverage: float, miscovers: str | None) -> Any:
    return {
        "source": name,
        "advice": advice,
        "calibrated_forecasts": 73,
        "calibrated_coverage": coverage,
        "miscovers": miscovers,
    }


def _covered(source: str, segment: str, coverage: float, samples: int, width: float) -> Any:
    return {
        "source": source,
        "segment": segment,
        "target": 0.8,
        "coverage": coverage,
        "samples": samples,
        "mean_width": width,
        "breach_rate": 1 - coverage,
        "calibrated_coverage": 0.798 if source == "ewma" else None,
    }
