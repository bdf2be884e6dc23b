"""Segments: groups of forecasts that are calibrated together, from narrow to wide.

liquidity=high|width=0.01..0.03  >  width=0.01..0.03  >  all
"""

from bisect import bisect_right
from collections.abc import Sequence

from runner.calibration.state import EVERYTHING
from runner.config.conformal import Dimension


def segment_chain(
    dimensions: Sequence[Dimension],
    width_edges: Sequence[float],
    *,
    liquidity: str | None,
    freq: str,
    width: float | None,
) -> tuple[str, ...]:
    """The names of a forecast's segments, the narrowest first; the last holds every forecast.

    Args:
        dimensions: of the narrowest segment; the first one is dropped first.
        width_edges: ascending probabilities that cut ``width`` into ranges.
        liquidity: the caller's bucket, or None.
        freq: step of the series.
        width: of the calibrated interval at the last step, before the width limits, or None.

    >>> from runner.config.conformal import Dimension
    >>> both = (Dimension.LIQUIDITY, Dimension.WIDTH)
    >>> segment_chain(both, (0.01, 0.1), liquidity="high", freq="5m", width=0.02)
    ('liquidity=high|width=0.01..0.1', 'width=0.01..0.1', 'all')
    """
    values = {
        Dimension.LIQUIDITY: liquidity,
        Dimension.FREQ: freq,
        Dimension.WIDTH: None if width is None else _range(width, width_edges),
    }
    parts = [f"{name}={values[name]}" for name in dimensions if values[name] is not None]
    return (*("|".join(parts[i:]) for i in range(len(parts))), EVERYTHING)


def _range(width: float, edges: Sequence[float]) -> str:
    bounds = (0.0, *edges, 1.0)
    above = bisect_right(edges, width)
    return f"{bounds[above]:g}..{bounds[above + 1]:g}"
