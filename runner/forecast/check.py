"""Whether the newest prices of a market left the band that is forecast without them.

    split   a request becomes the one that ends before its newest steps, which it keeps aside
    judge   these prices against the answer

A breach is a price outside the outermost levels of the answered band. The severity follows the run
of breaches on one side that ends with the newest price, so that one odd price, a move, and a move
that lasts are told apart without any memory of earlier requests. How unusual the price is, and how
often such breaches lasted, is learned from the outcomes of earlier forecasts of the same source.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

import numpy as np

from runner.calibration.conformal import interval_of
from runner.calibration.coverage import HELD_STEPS, Rolling, SegmentOf, breach_of
from runner.calibration.state import segment_chain
from runner.calibration.surprise import signed_scores
from runner.config.conformal import ConformalSection
from runner.errors import InvalidRequestError
from runner.forecast.resolved_request import TOLERANCE_S, regularise
from runner.types import Bands, ForecastRequest

MAX_NEWEST_STEPS = HELD_STEPS
LEAST_BREACHES = 30  # with fewer the standard error of the share that held is over 0.09
LEAST_SCORES = 200  # with fewer no p-value could be under 0.01
_NARROWEST = 1e-4  # of a band, in which distances are told: bands of still markets have no width


class Breach(StrEnum):
    """Where a price is."""

    NONE = "none"
    ABOVE = "above"
    BELOW = "below"


class Severity(StrEnum):
    """For how many steps the newest prices have been outside, on one side."""

    NONE = "none"
    BREACH = "breach"  # the newest alone
    RUN = "run"  # two or more
    HOLDS = "holds"  # `HELD_STEPS` or more


_BREACHES = {0: Breach.NONE, 1: Breach.ABOVE, -1: Breach.BELOW}


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure from earlier outcomes: its value, of how many outcomes, in which segment."""

    value: float
    sample_size: int
    segment: str


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """The newest price of a market against the band that was forecast without the newest steps."""

    price: float | None  # None: nothing was observed in the newest step
    breach: Breach
    beyond_widths: float  # distance from the edge in widths of the band; 0 inside
    run_steps: int
    severity: Severity
    p_value: Figure | None = None  # None: too few outcomes, or no price
    held_share: Figure | None = None  # of earlier breaches; None: too few of them


def split(request: ForecastRequest, newest_steps: int) -> ForecastRequest:
    """The request as of ``newest_steps`` earlier, with the prices of these steps aside.

    Raises:
        InvalidRequestError: fewer than two prices are before the newest steps.
    """
    as_of = request.as_of - timedelta(seconds=newest_steps * request.step_s)
    y_prob, y_ts, kept = request.y_prob, request.y_ts, request.y_prob.size - newest_steps
    if y_ts is not None:
        kept = int(np.searchsorted(y_ts, as_of.timestamp() + TOLERANCE_S, side="right"))
        y_ts = y_ts[:kept]
    if np.isfinite(y_prob[: max(kept, 0)]).sum() < 2:
        raise InvalidRequestError("y", "Send at least 2 values before the newest steps.")
    newest = regularise(y_prob, request.y_ts, request.x_past, request.step_s, newest_steps)
    horizon_steps = max(request.horizon_steps, newest_steps)
    before = replace(
        request,
        as_of=as_of,
        horizon_steps=horizon_steps,
        y_prob=y_prob[:kept],
        y_ts=y_ts,
        x_past={name: x[:kept] for name, x in request.x_past.items()},
        x_future={
            name: np.concatenate([newest.x_past[name], x])[:horizon_steps]
            for name, x in request.x_future.items()
        },
        newest_prob=newest.observed_prob,
    )
    is_short = y_ts is not None and y_ts[-1] < as_of.timestamp() - TOLERANCE_S
    return _ending_at_as_of(before) if is_short else before


def _ending_at_as_of(request: ForecastRequest) -> ForecastRequest:
    """With a step without a price at the end: a series with times ends at ``as_of``."""
    times = np.empty(0) if request.y_ts is None else request.y_ts
    return replace(
        request,
        y_prob=np.append(request.y_prob, np.nan),
        y_ts=np.append(times, request.as_of.timestamp()),
        x_past={name: np.append(x, x[-1]) for name, x in request.x_past.items()},
    )


def judge(
    request: ForecastRequest,
    source: str,
    bands: Bands,
    learned: Mapping[SegmentOf, Rolling],
    settings: ConformalSection,
) -> Check:
    """The prices aside in ``request`` against the bands of ``source`` for their steps."""
    newest = request.newest_prob
    low, up = bands.y_prob[: newest.size, [0, -1]].T
    sides = [breach_of(*each) for each in zip(newest, low, up, strict=True)]
    run_steps = run_of(sides, np.isfinite(newest).tolist())
    away = max(newest[-1] - up[-1], low[-1] - newest[-1]) / max(up[-1] - low[-1], _NARROWEST)
    check = Check(
        price=float(newest[-1]) if np.isfinite(newest[-1]) else None,
        breach=_BREACHES[sides[-1]],
        beyond_widths=float(away) if sides[-1] else 0.0,
        run_steps=run_steps,
        severity=severity_of(run_steps),
    )
    levels = np.asarray(request.levels)
    interval = interval_of(bands.unlimited, levels, settings.target_coverage)
    if interval is None or check.price is None:
        return check
    step = newest.size - 1
    chain = segment_chain(settings, request.liquidity_bucket, request.freq, interval)
    score = float(signed_scores(interval[step], newest[-1]))
    known = [(name, learned[source, name]) for name in chain if (source, name) in learned]
    return replace(
        check,
        p_value=_first(known, lambda one: one.scores.p_value(step, score), LEAST_SCORES),
        held_share=_first(known, Rolling.held, LEAST_BREACHES),
    )


def _first(
    known: Sequence[tuple[str, Rolling]],
    figure: Callable[[Rolling], tuple[float, float]],
    least: int,
) -> Figure | None:
    """The figure of the narrowest segment with enough outcomes."""
    for segment, rolling in known:
        value, samples = figure(rolling)
        if samples >= least:
            return Figure(round(value, 6), round(samples), segment)
    return None


def run_of(sides: Sequence[int], is_known: Sequence[bool]) -> int:
    """The number of newest steps on one side; steps without a price neither count nor end it.

    >>> run_of([0, 1, 1], [True] * 3), run_of([1, 0, 1], [True, False, True])
    (2, 2)
    >>> run_of([1, 0], [True] * 2)
    0
    """
    side, run = sides[-1], 0
    for each, known in zip(reversed(sides), reversed(is_known), strict=True):
        if known and each != side:
            break
        run += int(known and side != 0)
    return run


def severity_of(run_steps: int) -> Severity:
    """The severity of a run.

    >>> [severity_of(steps).value for steps in (0, 1, 2, 12)]
    ['none', 'breach', 'run', 'holds']
    """
    if run_steps >= HELD_STEPS:
        return Severity.HOLDS
    return (Severity.NONE, Severity.BREACH, Severity.RUN)[min(run_steps, 2)]
