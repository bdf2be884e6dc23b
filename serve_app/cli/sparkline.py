"""A row of numbers as a line of blocks."""

from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The newest of ``values`` as blocks between the least and the greatest; a space for None.

    More values than ``width`` are thinned out evenly.

    >>> sparkline([0.0, 0.5, None, 1.0], width=10)
    '▁▅ █'
    >>> sparkline([0.3, 0.3], width=10)
    '▁▁'
    """
    every = max(1, -(-len(values) // width))
    shown = list(values)[::-1][::every][::-1]
    known = [value for value in shown if value is not None]
    if not known:
        return " " * len(shown)
    low, spread = min(known), max(known) - min(known)
    return "".join(" " if v is None else _block(v, low, spread) for v in shown)


def _block(value: float, low: float, spread: float) -> str:
    share = (value - low) / spread if spread else 0.0
    return _BLOCKS[min(len(_BLOCKS) - 1, int(share * len(_BLOCKS)))]
