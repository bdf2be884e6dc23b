"""Where a forecast belongs when it is calibrated: its own segment, then ever wider ones.

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
    """Names of segments, the narrowest first; the last is every forecast's.

    Args:
        dimensions: what is told apart; the first one is given up first.
        width_edges: ascending probabilities that cut ``width`` into ranges.
        liquidity: the caller's bucket, None where not said.
        freq: step of the series.
        width: of the band before its limits at the last step, None where it has no such interval.

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
