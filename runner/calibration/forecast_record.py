"""The data for learning: answered requests and actual values.

Replicas send them pickled to the learning actor, so they hold plain values only.
"""

from dataclasses import dataclass

from runner.types import Bands, FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class ForecastRecord:
    """One answered request.

    Attributes:
        as_of: time of the last value, POSIX seconds.
        step_s: grid step in seconds; ``freq`` is the same as text.
        observed_prob: ``(T,)`` on the grid that ends at ``as_of``, NaN where nothing was observed.
        levels: quantile levels of ``bands``.
        source: of the bands: a model's runtime name, or ``ewma``.
    """

    market_id: str
    freq: str
    step_s: int
    as_of: float
    observed_prob: FloatArray
    levels: tuple[float, ...]
    liquidity: str | None
    source: str
    bands: Bands


@dataclass(frozen=True, slots=True)
class Actual:
    """A value of a market, sent to the outcomes endpoint; ``ts`` in POSIX seconds."""

    market_id: str
    ts: float
    y_prob: float


@dataclass(frozen=True, slots=True)
class OutcomeCounts:
    """Counts for the outcomes of one call.

    Attributes:
        accepted: all outcomes.
        scored: outcomes of open forecasts.
        unknown: the others: no forecast for that market and time, or it is already scored.
        points: scored steps of forecasts; an outcome can score steps of several forecasts.
    """

    accepted: int
    scored: int
    unknown: int
    points: int
