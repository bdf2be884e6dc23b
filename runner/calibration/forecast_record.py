"""What an answered request tells about its market: values that came, and a forecast to judge later.

Pickled from the replicas to where learning happens, so plain values only.
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
        source: who made the bands: a model's runtime name, or ``ewma``.
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
    """A value of a market that a caller has sent by itself; ``ts`` in POSIX seconds."""

    market_id: str
    ts: float
    y_prob: float


@dataclass(frozen=True, slots=True)
class OutcomeCounts:
    """What became of the outcomes of one call.

    Attributes:
        accepted: all of them.
        scored: those that some forecast had waited for.
        unknown: the others: nothing was forecast for that market and time, or it is scored already.
        points: steps of forecasts that were scored, several for an outcome that many had forecast.
    """

    accepted: int
    scored: int
    unknown: int
    points: int
