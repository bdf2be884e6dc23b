"""Scores by step and by segment, as plain values for tables, JSON and the page."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from runner.types import FloatArray
from serve_app.backtest.scores import LEVELS, Scores, score_bands
from serve_app.backtest.windows import BoolArray, Windows, freq

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

Summary = dict[str, Any]


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
