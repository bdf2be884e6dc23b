"""Reference forecasts of statsforecast's models, with statsforecast's intervals.

Each window is a series of its own. Values outside [0, 1] are clipped, crossing levels are
sorted. statsforecast has no analytic intervals for exponential smoothing: conformal ones are used.
"""

import warnings
from typing import Any

import numpy as np

from runner.types import FloatArray

MODELS = {"sf Naive": "Naive", "sf SES": "SES", "sf AutoETS": "AutoETS"}
_CONFORMAL_WINDOWS = 4


def forecast(name: str, y_prob: FloatArray, horizon_steps: int, levels: FloatArray) -> FloatArray:
    """Bands ``(B, H, Q)`` of ``(B, T)`` windows; ``levels`` are symmetric about 0.5."""
    model = _model(name, horizon_steps)
    coverages = [round(200 * level - 100) for level in levels if level > 0.5]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a constant price is a division by zero there
        rows = [_bands(model, y, horizon_steps, coverages) for y in y_prob]
    return np.sort(np.clip(np.array(rows), 0, 1), axis=2)


def _model(name: str, horizon_steps: int) -> Any:
    from statsforecast.models import AutoETS, Naive, SimpleExponentialSmoothingOptimized
    from statsforecast.utils import ConformalIntervals

    intervals = ConformalIntervals(h=horizon_steps, n_windows=_CONFORMAL_WINDOWS)
    made: dict[str, Any] = {
        "Naive": Naive(),
        "SES": SimpleExponentialSmoothingOptimized(prediction_intervals=intervals),
        "AutoETS": AutoETS(season_length=1),
    }
    return made[MODELS[name]]


def _bands(model: Any, y: FloatArray, horizon_steps: int, coverages: list[int]) -> FloatArray:
    """``(H, Q)``: lower levels outside in, median, upper levels inside out."""
    answer = model.forecast(y=y, h=horizon_steps, level=coverages)
    lower = [answer[f"lo-{coverage}"] for coverage in reversed(coverages)]
    upper = [answer[f"hi-{coverage}"] for coverage in coverages]
    bands: FloatArray = np.stack([*lower, answer["mean"], *upper], axis=1)
    return np.nan_to_num(bands, nan=y[-1])
