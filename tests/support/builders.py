"""Sane values for tests: each builder takes what the test is about and fills in the rest."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from runner.config.loading import Config, load_config
from runner.config.registry import Registry, load_registry
from runner.types import (
    Bands,
    BatchKey,
    BreakerState,
    ForecastRequest,
    ModelAnswer,
    ModelRequest,
    Space,
    Transform,
)
from serve_app.telemetry.recorder import Recorder
from serve_app.telemetry.request_history import RequestHistory
from serve_app.telemetry.request_metrics import RequestMetrics

ROOT = Path(__file__).resolve().parents[2]
LOGIT = Transform(Space.LOGIT, 1e-6)
AS_OF = datetime(2026, 2, 20, 12, tzinfo=UTC)


@cache
def _shipped() -> Config:
    return load_config(ROOT / "configs/local.yaml")


def make_config(**sections: Mapping[str, Any] | str) -> Config:
    """The shipped local configuration with some sections' keys replaced."""
    config = _shipped()
    changes = {
        name: getattr(config, name).model_copy(update=dict(change))
        if isinstance(change, Mapping)
        else change
        for name, change in sections.items()
    }
    return config.model_copy(update=changes)


@cache
def make_registry() -> Registry:
    return load_registry(ROOT / "configs/tsfm_models.yaml")


def walk(points: int, seed: int = 7) -> np.ndarray:
    """A lively series inside (0, 1)."""
    steps = np.random.default_rng(seed).normal(0, 0.1, points)
    return 1.0 / (1.0 + np.exp(-np.cumsum(steps)))


def make_request(**changes: Any) -> ForecastRequest:
    values: dict[str, Any] = {
        "market_id": "m-1",
        "as_of": AS_OF,
        "freq": "5m",
        "step_s": 300,
        "horizon_steps": 3,
        "levels": (0.1, 0.5, 0.9),
        "y_prob": walk(40),
        "y_ts": None,
        "x_past": {},
        "x_future": {},
        "transform": LOGIT,
        "model_name": "chronos",
        "model_version": None,
        "params": {},
        "liquidity_bucket": None,
        "max_gap_minutes": 60.0,
    }
    return ForecastRequest(**(values | changes))


def make_bands(horizon: int = 3, levels: int = 3, corrections: tuple[str, ...] = ()) -> Bands:
    rows = np.linspace(0.3, 0.6, levels)
    return Bands(np.tile(rows, (horizon, 1)), corrections)


def make_answer(**changes: Any) -> ModelAnswer:
    values: dict[str, Any] = {
        "bands": make_bands(),
        "breaker_state": BreakerState.CLOSED,
        "batch_size": 4,
        "queue_ms": 1.5,
        "runtime_ms": 40.0,
    }
    return ModelAnswer(**(values | changes))


def make_model_request(**changes: Any) -> ModelRequest:
    values: dict[str, Any] = {
        "key": BatchKey("fracast-0", 3, (0.1, 0.5, 0.9)),
        "y_prob": walk(40),
        "transform": LOGIT,
        "end_ts": AS_OF.timestamp(),
        "step_s": 300,
        "budget_s": 1.0,
        "cache_key": b"k",
    }
    return ModelRequest(**(values | changes))


def make_request_metrics(
    clock: Callable[[], float], recorder: Recorder | None = None
) -> RequestMetrics:
    """What writes answers down; the time of day begins at ``AS_OF``."""
    traffic = RequestHistory(clock, AS_OF.timestamp)
    return RequestMetrics(recorder or Recorder(), traffic, log_every_s=60.0)
