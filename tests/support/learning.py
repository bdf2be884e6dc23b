"""Markets and their forecasts for tests of self-calibration."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from runner.calibration.coverage import (
    CoverageReport,
    ForecastRecord,
    Learned,
    Rolling,
    SkillRow,
    SourceRow,
)
from runner.calibration.miscoverage import Miscovers
from runner.calibration.online_calibrator import OnlineCalibrator
from runner.calibration.routing import Advice, RoutedBy
from runner.calibration.skill import Paired
from runner.calibration.state import ConformalState, StepFactors
from runner.config.conformal import ConformalSection
from runner.types import Bands, Space, Transform
from tests.support.builders import make_config
from tests.support.fakes import FakeLearning

START = 1_700_000_000.0
STEP_S = 300
NARROW = "activity=few|price=edge|freq=5m"
NOTHING = Learned(ConformalState(0.8), {})


def make_settings(**changes: Any) -> ConformalSection:
    """Two changes are a moving window, and everything is calibrated as soon as it can be."""
    values = {"min_changes": 2, "max_steps": 12, "segments": ()}
    values |= {"min_samples": 9, "min_segment_samples": 9}
    return make_config(conformal=values | changes).conformal


def make_learner(learned: Learned = NOTHING, **changes: Any) -> OnlineCalibrator:
    return OnlineCalibrator(make_settings(**changes), learned)


def make_state(
    source: str = "ewma", factor: float = 1.0, steps: int = 3, size: int = 500
) -> ConformalState:
    track = StepFactors(np.full((steps, 2), factor), np.full(steps, size))
    return ConformalState(0.8, {source: {"all": track}})


def band(centre: float, half: float, steps: int = 3) -> Bands:
    return Bands(np.tile([centre - half, centre, centre + half], (steps, 1)))


def make_seen(
    step: int,
    *window: float | None,
    market: str = "m-1",
    bands: Bands | None = None,
    step_s: int = STEP_S,
    late_s: float = 0.0,
    **changes: Any,
) -> ForecastRecord:
    """A request at a step of time whose newest values are ``window``; an older one has moved."""
    values: Mapping[str, Any] = {
        "market_id": market,
        "freq": "5m",
        "step_s": step_s,
        "as_of": START + step * step_s + late_s,
        "observed_prob": np.array([0.4, 0.5, 0.4, *window], dtype=np.float64),
        "levels": (0.1, 0.5, 0.9),
        "liquidity": None,
        "source": "ewma",
        "bands": bands or band(0.5, 0.1),
        "transform": Transform(Space.LOGIT, 1e-6),
    }
    return ForecastRecord(**{**values, **changes})


def make_paired(ratio: float = 2.0, forecasts: int = 60) -> Paired:
    """A model whose losses are about so many times those of the baseline."""
    losses = np.linspace(0.005, 0.015, forecasts)
    shares, scores = np.full((forecasts, 2), 0.8), np.tile([0.09, 0.06], (forecasts, 1))
    brier = np.tile([0.2, 0.1], (forecasts, 1))
    return Paired().after(np.column_stack([ratio * losses, losses, shares, scores, brier]))


def make_learning() -> FakeLearning:
    """A model that is worse everywhere, and of which little is known in one segment."""
    learning = FakeLearning()
    worse, little = make_paired(2.0, 60), make_paired(0.5, 3)
    rows = [("all", worse), (NARROW, little)]
    learning.report = CoverageReport(
        0.8,
        skill=tuple(
            SkillRow("fracast-0", name, p.skill(), RoutedBy.SKILL if p.routed else None)
            for name, p in rows
        ),
        sources=(
            SourceRow("ewma", 0, None, None, None),
            SourceRow("fracast-0", 73, 0.58, Miscovers.UNDER, Advice.DROP),
        ),
    )
    return learning


def make_rolling(points: int, **sums: float) -> Rolling:
    """Sums over so many outcomes that were all inside a band 0.1 wide, with some replaced."""
    usual = {"weight": points, "covered": points, "width": 0.1 * points, "breached": 0.0}
    named = {**usual, "calibrated": 0.0, "calibrated_covered": 0.0, "calibrated_width": 0.0, **sums}
    return Rolling(points, np.array(list(named.values()), dtype=np.float64))
