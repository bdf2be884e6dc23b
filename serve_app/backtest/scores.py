"""Scores of bands: per window and step, and as plain values by step and by segment.

Proper scores come from scoringrules. Interval score: Gneiting and Raftery, "Strictly Proper Scoring
Rules, Prediction, and Estimation", JASA 102(477), 2007, section 6.2; pinball loss: Koenker and
Bassett, "Regression Quantiles", Econometrica 46(1), 1978. Lower is better, except for coverage,
which should equal the target.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.types import FloatArray
from serve_app.backtest.windows import BoolArray, Windows, freq

LEVELS = np.array([0.05, 0.1, 0.5, 0.9, 0.95])
MEDIAN = 2  # its place among LEVELS
PINBALL = slice(1, 4)  # the mean over 0.1, 0.5 and 0.9 is "the" pinball loss
INTERVALS = {0.8: (1, 3), 0.9: (0, 4)}  # coverage: the places of its two levels
_ROUNDING = 1e-9  # prices have the precision of float32
_NUMPY = "numpy"  # the default is numba where installed, which compiles first

PRICE_EDGES = (0.0, 0.02, 0.05, 0.2, 0.8, 0.95)
CHANGE_EDGES = (12, 24, 48, 96, 192)
FEWEST_POINTS = 1_000  # fewest scored points for the coverage of a segment

_MEANS = {
    "coverage_80": "covered_80",
    "coverage_90": "covered_90",
    "width_80": "width_80",
    "width_90": "width_90",
    "interval_score_80": "interval_80",
    "interval_score_90": "interval_90",
    "pinball": "pinball",
    "crps": "crps",
    "mae": "absolute_error",
}

Scores = dict[str, FloatArray]
Summary = dict[str, Any]


def score_bands(bands: FloatArray, actual: FloatArray) -> Scores:
    """Scores ``(B, H)`` by name, of bands ``(B, H, Q)`` at ``LEVELS`` for actual values ``(B, H)``.

    Those of ``INTERVALS`` carry their coverage, as in ``width_80``; ``real`` is `real_moves`.
    """
    import scoringrules  # of an optional extra

    losses = scoringrules.quantile_score(actual[..., None], bands, LEVELS, backend=_NUMPY)
    error = actual - bands[..., MEDIAN]
    found = {
        "pinball": losses[..., PINBALL].mean(axis=-1),
        "crps": scoringrules.crps_quantile(actual, bands, LEVELS, backend=_NUMPY),
        "absolute_error": np.abs(error),
        "squared_error": error**2,
        "real": real_moves(bands, actual),
    }
    for coverage, (lower, upper) in INTERVALS.items():
        low, up = bands[..., lower], bands[..., upper]
        name = f"{round(coverage * 100)}"
        found[f"covered_{name}"] = inside(low, up, actual).astype(float)
        found[f"width_{name}"] = up - low
        winkler = scoringrules.interval_score(actual, low, up, 1 - coverage, backend=_NUMPY)
        found[f"interval_{name}"] = np.reshape(winkler, actual.shape)  # it drops axes of length 1
    return found


def inside(low: FloatArray, up: FloatArray, actual: FloatArray) -> NDArray[np.bool_]:
    """Whether outcomes lie in their bands, edges included."""
    within: NDArray[np.bool_] = (low - _ROUNDING <= actual) & (actual <= up + _ROUNDING)
    return within


def real_moves(bands: FloatArray, actual: FloatArray) -> FloatArray:
    """Which first breaches ``(B, H)`` were real moves: 1 or 0; NaN elsewhere.

    An alert would be sent for the first price outside the 80 % band. It is a real move if the last
    price of the horizon is still beyond the same edge, else a spike. A breach in the last step
    does not count.
    """
    low, up = (bands[..., place] for place in INTERVALS[0.8])
    breach = ~inside(low, up, actual)
    windows, steps = np.arange(len(actual)), breach.argmax(axis=1)
    broken = breach.any(axis=1) & (steps < actual.shape[1] - 1)
    windows, steps = windows[broken], steps[broken]
    upward = actual[windows, steps] > up[windows, steps]
    end = actual[windows, -1]
    stayed = np.where(upward, end > up[windows, steps], end < low[windows, steps])
    real = np.full(actual.shape, np.nan)
    real[windows, steps] = stayed
    return real


def segments(windows: Windows) -> Iterator[tuple[str, str, BoolArray]]:
    """All segments: dimension, name and windows ``(B,)``."""
    for dimension in ("platform", "category"):
        values = windows.labels[dimension]
        for name in np.unique(values[values != ""]):
            yield dimension, str(name), values == name
    yield from _ranges("price", windows.past[:, -1], PRICE_EDGES, last="1")
    yield from _ranges("changes", windows.changes, CHANGE_EDGES, last="")
    for step_s in np.unique(windows.step_s):
        yield "step", freq(step_s), windows.step_s == step_s


def summarise(bands: FloatArray, windows: Windows) -> Summary:
    """The scores of one source: on all windows, on moving ones, by step and by segment."""
    scores, moving = score_bands(bands, windows.future), windows.moving
    return {
        "all": _with_steps(scores, np.ones(len(windows), dtype=bool)),
        "moving": _with_steps(scores, moving),
        "segments": [
            {
                "by": by,
                "name": name,
                "all": overall(scores, where),
                "moving": overall(scores, where & moving),
            }
            for by, name, where in segments(windows)
        ],
        "reliability": reliability(bands[moving], windows.future[moving]),
    }


def _with_steps(scores: Scores, where: BoolArray) -> Summary:
    steps = {name: _by_step(scores[key][where]) for name, key in _MEANS.items()}
    steps["rmse"] = np.sqrt(_by_step(scores["squared_error"][where]))
    steps["breach_rate"] = 1 - steps["coverage_80"]
    plain = {
        name: [float(v) if np.isfinite(v) else None for v in values]
        for name, values in steps.items()
    }
    return {**overall(scores, where), "steps": plain}


def overall(scores: Scores, where: BoolArray) -> Summary:
    """The mean scores of the chosen windows; None if there are none."""
    count, steps = int(where.sum()), scores["pinball"].shape[1]
    means = {name: _mean(scores[key][where]) for name, key in _MEANS.items()}
    squared, real = _mean(scores["squared_error"][where]), scores["real"][where]
    first_breaches = int(np.isfinite(real).sum())
    coverage = means["coverage_80"]
    return {
        "windows": count,
        "points": count * steps,
        **means,
        "rmse": None if squared is None else squared**0.5,
        "breach_rate": None if coverage is None else 1 - coverage,
        "first_breaches": first_breaches,
        "real_moves": float(np.nanmean(real)) if first_breaches else None,
    }


def reliability(bands: FloatArray, actual: FloatArray) -> list[dict[str, float | None]]:
    """By level, the share of outcomes below it; those exactly on it count half.

    Constant prices often lie exactly on the median.
    """
    gap = actual[..., None] - bands
    below = (gap < -1e-9) + 0.5 * (np.abs(gap) <= 1e-9)
    return [
        {"level": float(level), "share_below": _mean(below[..., i])}
        for i, level in enumerate(LEVELS)
    ]


def _ranges(
    by: str, values: Any, edges: tuple[float, ...], last: str
) -> Iterator[tuple[str, str, BoolArray]]:
    for low, high in zip(edges, (*edges[1:], None), strict=True):
        where = values >= low if high is None else (values >= low) & (values < high)
        yield by, f"{low:g}..{last if high is None else format(high, 'g')}", where


def _mean(values: FloatArray) -> float | None:
    return float(values.mean()) if values.size else None


def _by_step(values: FloatArray) -> FloatArray:
    return values.mean(axis=0) if len(values) else np.full(values.shape[1], np.nan)
