"""The sources of bands that are computed in this process, by name."""

from dataclasses import dataclass

from runner.baseline.ewma_bands import ewma_bands
from runner.config.sections import BaselineSection
from runner.types import FloatArray, Transform
from serve_app.backtest.forecasters import statsforecast_bands
from serve_app.backtest.forecasters.references import REFERENCES
from serve_app.backtest.scoring.scores import LEVELS
from serve_app.backtest.windows import Windows

BASELINE = "baseline"
OUTSIDE = tuple(statsforecast_bands.MODELS)


@dataclass(frozen=True, slots=True)
class BaselineSettings:
    """The baseline's settings in the service's configuration."""

    section: BaselineSection
    transform: Transform


def forecast(name: str, windows: Windows, baseline: BaselineSettings) -> FloatArray:
    """Bands ``(B, H, Q)`` at ``LEVELS``, of any width."""
    past, horizon_steps = windows.past, windows.future.shape[1]
    if name == BASELINE:
        return ewma_bands(past, horizon_steps, LEVELS, baseline.transform, baseline.section)
    if name in OUTSIDE:
        return statsforecast_bands.forecast(name, past, horizon_steps, LEVELS)
    return REFERENCES[name](past, horizon_steps, LEVELS, windows.step_s)
