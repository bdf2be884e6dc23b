"""Compares alert rules on real prices, at the same number of alerts: how many of these moves last?

At every step of a series a rule gives the newest price a surprise, from the steps before it. After
an alert a market has no other one for `HORIZON` steps. All rules get the threshold at which they
give as many alerts as the service's does at its own.

    service          p-value of the signed score in the baseline's band (`runner.calibration`),
                     where the price has left the answered band; learned on the other events,
                     like the service's on windows with enough changes
    flat recipe      distance from the flat band's centre, in its half-widths
    z-score          last increment in standard deviations of the earlier ones
    fixed threshold  last increment in probability

A move has lasted if half of it or more is left `HORIZON` - 1 steps later. It is worth an alert if
it is `LEAST_MOVE` or more besides: one tick in a market where nothing else happens lasts too. A
large move is one by `LARGE_MOVE` or more.
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
LEAST_MOVE, LARGE_MOVE = 0.01, 0.05  # in probability: a cent is the usual tick
P_VALUES = (0.02, 0.01, 0.005, 0.002, 0.001)  # that the service alerts at
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
    moving: BoolArray  # (N,) whether the service learns from the window before the step
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
        moving=(np.diff(windows, axis=1) != 0).sum(axis=1) >= (config.conformal.min_changes or 0),
        outside=(now < answered[:, 0] - 1e-9) | (now > answered[:, 2] + 1e-9),
        surprise={FLAT: flat_score, Z_SCORE: z, FIXED: np.abs(change)},
        step_s=series.step_s,
        event=series.labels.get("event") or series.market_id,
    )


def compare_rules(steps: Sequence[Steps], p_value: float, seed: int = 0) -> Summary:
    """The figures of each rule at the number of alerts that the service gives at ``p_value``.

    ``curve`` has the same for each of `P_VALUES`.
    """
    events = sorted({one.event for one in steps})
    half = np.random.default_rng(seed).permutation(len(events)) < len(events) // 2
    first = {event for event, is_first in zip(events, half, strict=True) if is_first}
    surprise = _p_values(steps, first)
    service = [np.where(one.outside, -p, -np.inf) for one, p in zip(steps, surprise, strict=True)]
    others = {rule: [one.surprise[rule] for one in steps] for rule in (FLAT, Z_SCORE, FIXED)}
    days = sum(len(one.change) * one.step_s for one in steps) / 86_400

    def at(p_value: float) -> Summary:
        alerts = {SERVICE: [alerts_of(s, -p_value) for s in service]}
        wanted = sum(map(len, alerts[SERVICE]))
        for rule, scores in others.items():
            threshold = threshold_of(scores, wanted)
            alerts[rule] = [alerts_of(s, threshold) for s in scores]
        return {rule: _figures(steps, found, days) for rule, found in alerts.items()}

    return {
        "p_value": p_value,
        "markets": len(steps),
        "market_days": days,
        "moving_steps": sum(int(one.moving.sum()) for one in steps),
        "randomised_ks": _distance_from_uniform(steps, first),
        "rules": at(p_value),
        "curve": [{"p_value": one, "rules": at(one)} for one in P_VALUES],
    }


def alerts_of(surprise: FloatArray, threshold: float) -> NDArray[np.int64]:
    """The steps with an alert: at the threshold or over, `HORIZON` steps apart."""
    found, free_at = [], 0
    for step in np.flatnonzero(surprise >= threshold).tolist():
        if step >= free_at:
            found.append(step)
            free_at = step + HORIZON
    return np.array(found, dtype=np.int64)


def threshold_of(scores: Sequence[FloatArray], wanted: int) -> float:
    """The lowest score of a step at which there are at most so many alerts; inf if there is none.

    The search is among the highest scores: a low threshold would make most steps alerts.
    """
    ranked = np.sort(np.concatenate(scores))[::-1]

    def are_too_many(rank: int) -> bool:
        return sum(len(alerts_of(score, ranked[rank])) for score in scores) > wanted

    if are_too_many(0):  # equal scores
        return float("inf")
    low, high = 0, max(wanted, 1)
    while high < len(ranked) and not are_too_many(high):
        low, high = high, 2 * high
    high = min(high, len(ranked))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if are_too_many(middle) else (middle, high)
    return float(ranked[low])


def _by_histogram(
    steps: Sequence[Steps],
    first: set[str],
    figure: Callable[[ScoreHistogram, FloatArray], FloatArray],
) -> list[FloatArray]:
    """A figure ``(N,)`` of every series, by the histogram of its segment in the other events."""
    found = [np.ones(len(one.score)) for one in steps]
    for is_first in (True, False):
        others = [one for one in steps if (one.event in first) != is_first]
        scores = np.concatenate([one.score[one.moving] for one in others])
        segments = np.concatenate([one.segment[one.moving] for one in others])
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
    """Of randomised p-values on moving windows, after Kolmogorov and Smirnov."""
    chance = np.random.default_rng(1)
    parts = _by_histogram(
        steps, first, lambda seen, scores: seen.randomised(0, scores, chance.random(len(scores)))
    )
    found = np.sort(np.concatenate([p[one.moving] for one, p in zip(steps, parts, strict=True)]))
    grid = (np.arange(len(found)) + 0.5) / len(found)
    return float(np.abs(found - grid).max())


def _figures(steps: Sequence[Steps], alerts: Sequence[NDArray[np.int64]], days: float) -> Summary:
    count = sum(map(len, alerts))
    pairs = list(zip(steps, alerts, strict=True))
    lasted = sum(int(one.lasted[at].sum()) for one, at in pairs)
    worth = sum(
        int((one.lasted & (np.abs(one.change) >= LEAST_MOVE))[at].sum()) for one, at in pairs
    )
    large, seen, delays = 0, 0, list[int]()
    for one, at in pairs:
        for step in np.flatnonzero(one.lasted & (np.abs(one.change) >= LARGE_MOVE)).tolist():
            large += 1
            after = at[(at >= step) & (at < step + HORIZON)]
            if len(after):
                seen += 1
                delays.append(int(after[0]) - step)
    sizes = np.concatenate([np.abs(one.change[at]) for one, at in pairs])
    return {
        "alerts": count,
        "per_market_day": count / days,
        "lasted_share": lasted / count if count else 0.0,
        "worth_share": worth / count if count else 0.0,
        "median_change": float(np.median(sizes)) if count else 0.0,
        "large_moves": large,
        "large_moves_seen": seen / large if large else 0.0,
        "mean_delay_steps": float(np.mean(delays)) if delays else 0.0,
    }
