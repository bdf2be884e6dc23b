"""Compares alert rules on real prices, at the same number of alerts: how many of these moves last?

At every step of a series a rule gives the newest price a surprise, from the steps before it. After
an alert a market has no other one for `HORIZON` steps. All rules get the threshold at which they
give as many alerts as the service's does at its own.

    service          p-value of the signed score in the baseline's band (`runner.calibration`),
                     where the price has left the answered band; learned on the other events
    flat recipe      distance from the flat band's centre, in its half-widths
    z-score          last increment in standard deviations of the earlier ones
    fixed threshold  last increment in probability

A move has lasted if half of it or more is left `HORIZON` - 1 steps later. A real move is a change
by `REAL_MOVE` or more in one step that has lasted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.bands import min_widths, sanitize
from runner.baseline.ewma_bands import ewma_bands
from runner.calibration.conformal import interval_of
from runner.calibration.surprise import ScoreHistogram, signed_scores
from runner.config.loading import Config
from runner.types import FloatArray, Transform
from serve_app.backtest.forecasters import flat_recipe
from serve_app.backtest.market_file import Series
from serve_app.backtest.scores import LEVELS, Summary
from serve_app.backtest.windows import BoolArray

HORIZON = 12
POINTS = 288
MOST_STEPS = 1500  # of a series, the latest ones: long series would count more than others
REAL_MOVE = 0.05
SERVICE, FLAT, Z_SCORE, FIXED = "service", "flat recipe", "z-score", "fixed threshold"
ASKED = np.array([0.1, 0.5, 0.9])  # the levels of a request that names none


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The scored steps of one series, N of them."""

    change: FloatArray  # (N,) of the price in this step
    lasted: BoolArray  # (N,) whether half of it is left
    score: FloatArray  # (N,) signed score in the baseline's band
    segment: NDArray[np.int64]  # (N,) by the width of the band at its last step
    outside: BoolArray  # (N,) of the answered band
    surprise: dict[str, FloatArray]  # (N,) of each other rule
    step_s: float
    event: str


def steps_of(series: Series, config: Config) -> Steps | None:
    """The steps of a series with enough before and behind them; None if there are none."""
    y = series.y_prob[-(POINTS + MOST_STEPS + HORIZON) :]
    if len(y) < POINTS + HORIZON:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(y, POINTS)[:-HORIZON]  # (N, T)
    now = y[POINTS : POINTS + len(windows)]
    later = y[POINTS + HORIZON - 1 : POINTS + HORIZON - 1 + len(windows)]
    change, kept = now - windows[:, -1], later - windows[:, -1]
    transform = Transform(config.transform.space, config.transform.eps)
    bands = ewma_bands(windows, HORIZON, ASKED, transform, config.baseline)  # (N, H, Q)
    limits = min_widths(windows, config.bands)
    answered = sanitize(bands[:, :1], ASKED, config.bands, limits).y_prob[:, 0]
    flat = flat_recipe(windows, 1)[:, 0]  # (N, Q)
    low, centre, up = (flat[:, np.abs(LEVELS - level).argmin()] for level in ASKED)
    interval = interval_of(bands, ASKED, config.conformal.target_coverage)
    assert interval is not None
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.diff(windows, axis=1).std(axis=1)
        z = np.where(change == 0, 0.0, np.abs(change) / np.maximum(spread, 1e-9))
        half = np.where(now > centre, up - centre, centre - low)
        flat_score = np.abs(now - centre) / np.maximum(half, 1e-9)
    return Steps(
        change=change,
        lasted=(change != 0) & (kept * np.sign(change) >= 0.5 * np.abs(change)),
        score=signed_scores(interval[:, 0], now),
        segment=np.searchsorted(config.conformal.width_edges, bands[:, -1, 2] - bands[:, -1, 0]),
        outside=(now < answered[:, 0] - 1e-9) | (now > answered[:, 2] + 1e-9),
        surprise={FLAT: flat_score, Z_SCORE: z, FIXED: np.abs(change)},
        step_s=series.step_s,
        event=series.labels.get("event") or series.market_id,
    )


def compare_rules(steps: Sequence[Steps], p_value: float, seed: int = 0) -> Summary:
    """The figures of each rule at the number of alerts of the service's."""
    events = sorted({one.event for one in steps})
    half = np.random.default_rng(seed).permutation(len(events)) < len(events) // 2
    first = {event for event, is_first in zip(events, half, strict=True) if is_first}
    surprise = _p_values(steps, first)
    service = [np.where(one.outside, -p, -np.inf) for one, p in zip(steps, surprise, strict=True)]
    alerts = {SERVICE: [alerts_of(s, -p_value) for s in service]}
    wanted = sum(map(len, alerts[SERVICE]))
    for rule in (FLAT, Z_SCORE, FIXED):
        scores = [one.surprise[rule] for one in steps]
        alerts[rule] = [alerts_of(s, _threshold(scores, wanted)) for s in scores]
    days = sum(len(one.change) * one.step_s for one in steps) / 86_400
    return {
        "p_value": p_value,
        "markets": len(steps),
        "market_days": days,
        "randomised_ks": _distance_from_uniform(steps, first),
        "rules": {rule: _figures(steps, found, days) for rule, found in alerts.items()},
    }


def alerts_of(surprise: FloatArray, threshold: float) -> NDArray[np.int64]:
    """The steps with an alert: at the threshold or over, `HORIZON` steps apart."""
    found, free_at = [], 0
    for step in np.flatnonzero(surprise >= threshold).tolist():
        if step >= free_at:
            found.append(step)
            free_at = step + HORIZON
    return np.array(found, dtype=np.int64)


def _threshold(scores: Sequence[FloatArray], wanted: int) -> float:
    """The threshold that gives about so many alerts."""
    low, high = 0.0, max(float(score.max()) for score in scores)
    for _ in range(50):
        middle = (low + high) / 2
        if sum(len(alerts_of(score, middle)) for score in scores) > wanted:
            low = middle
        else:
            high = middle
    return high


def _by_histogram(
    steps: Sequence[Steps],
    first: set[str],
    figure: Callable[[ScoreHistogram, FloatArray], FloatArray],
) -> list[FloatArray]:
    """A figure ``(N,)`` of every series, by the histogram of its segment in the other events."""
    found = [np.ones(len(one.score)) for one in steps]
    for is_first in (True, False):
        others = [one for one in steps if (one.event in first) != is_first]
        scores = np.concatenate([one.score for one in others])
        segments = np.concatenate([one.segment for one in others])
        order = np.random.default_rng(0).permutation(len(scores))  # markets side by side
        for segment in np.unique(segments):
            its = order[segments[order] == segment]
            seen = ScoreHistogram().after(np.zeros(len(its), dtype=np.int64), scores[its])
            for one, values in zip(steps, found, strict=True):
                here = (one.segment == segment) & ((one.event in first) == is_first)
                values[here] = figure(seen, one.score[here])
    return found


def _p_values(steps: Sequence[Steps], first: set[str]) -> list[FloatArray]:
    return _by_histogram(steps, first, lambda seen, scores: seen.p_values(0, scores))


def _distance_from_uniform(steps: Sequence[Steps], first: set[str]) -> float:
    """Of randomised p-values, after Kolmogorov and Smirnov."""
    chance = np.random.default_rng(1)
    parts = _by_histogram(
        steps, first, lambda seen, scores: seen.randomised(0, scores, chance.random(len(scores)))
    )
    found = np.sort(np.concatenate(parts))
    grid = (np.arange(len(found)) + 0.5) / len(found)
    return float(np.abs(found - grid).max())


def _figures(steps: Sequence[Steps], alerts: Sequence[NDArray[np.int64]], days: float) -> Summary:
    count = sum(map(len, alerts))
    pairs = list(zip(steps, alerts, strict=True))
    lasted = sum(int(one.lasted[at].sum()) for one, at in pairs)
    real, seen, delays = 0, 0, list[int]()
    for one, at in pairs:
        for step in np.flatnonzero(one.lasted & (np.abs(one.change) >= REAL_MOVE)).tolist():
            real += 1
            after = at[(at >= step) & (at < step + HORIZON)]
            if len(after):
                seen += 1
                delays.append(int(after[0]) - step)
    sizes = np.concatenate([np.abs(one.change[at]) for one, at in pairs])
    return {
        "alerts": count,
        "per_market_day": count / days,
        "lasted_share": lasted / count if count else 0.0,
        "median_change": float(np.median(sizes)) if count else 0.0,
        "real_moves": real,
        "real_moves_seen": seen / real if real else 0.0,
        "mean_delay_steps": float(np.mean(delays)) if delays else 0.0,
    }
