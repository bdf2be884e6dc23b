"""Example windows for the report, with narrow and wide bands."""

import numpy as np
from numpy.typing import NDArray

from runner.types import FloatArray
from serve_app.backtest.scoring.scores import LEVELS
from serve_app.backtest.scoring.summary import Summary
from serve_app.backtest.windows import Windows

SHOWN_PAST = 72  # steps before the origin
_PLACES = (0.25, 0.5, 0.7, 0.85, 0.95, 0.99)  # of the moving windows, from narrow to wide bands


def pick(windows: Windows, bands: FloatArray) -> list[Summary]:
    """One moving window at each of several widths of its band, each of another market."""
    moving = np.flatnonzero(windows.moving)
    width = bands[moving, -1, -2] - bands[moving, -1, 1]
    ranked = moving[np.argsort(width, kind="stable")]
    chosen: list[int] = []
    for place in _PLACES:
        chosen += _unseen(windows, ranked[int(place * len(ranked)) :], chosen)
    return [_example(windows, bands, b) for b in chosen]


def _unseen(windows: Windows, candidates: NDArray[np.intp], chosen: list[int]) -> list[int]:
    markets = windows.labels["market_id"]
    seen = {str(markets[b]) for b in chosen}
    return [int(b) for b in candidates if str(markets[b]) not in seen][:1]


def _example(windows: Windows, bands: FloatArray, b: int) -> Summary:
    return {
        "market_id": str(windows.labels["market_id"][b]),
        "origin_ts": float(windows.origin_ts[b]),
        "step_s": float(windows.step_s[b]),
        "past": windows.past[b, -SHOWN_PAST:].tolist(),
        "future": windows.future[b].tolist(),
        "levels": LEVELS.tolist(),
        "bands": bands[b].tolist(),
    }
