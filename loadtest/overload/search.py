"""How much the service sustains: the rate rises until it is too much, then the gap is halved."""

from collections.abc import Awaitable, Callable

GROWTH = 1.5
MOST_TRIES = 12


async def sustainable(
    is_sustained: Callable[[float], Awaitable[bool]], start: float, refinements: int = 1
) -> float:
    """The highest rate that was sustained, a second; 0 when even ``start`` was too much.

    Args:
        is_sustained: offers a rate and says whether it was sustained.
        start: the first rate.
        refinements: tries between the last rate that was and the first that was not.
    """
    good, bad = 0.0, start
    for _ in range(MOST_TRIES):
        if not await is_sustained(bad):
            break
        good, bad = bad, bad * GROWTH
    for _ in range(refinements if good else 0):
        middle = (good + bad) / 2
        if await is_sustained(middle):
            good = middle
        else:
            bad = middle
    return good
