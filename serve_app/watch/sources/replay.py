"""Markets that need no network, to try the watch with: made by a formula, not real ones.

The price of a market at a step depends on its number and the step alone, so each cycle finds the
same past as the one before and a newest price. It moves slowly, stays on ticks of a cent, and every
`EVERY_STEPS` steps it jumps to another level; in each step it is another market's turn.
"""

import numpy as np

from serve_app.watch.quotes import Quotes, Reading

STEP_S, POINTS = 300, 320
MARKETS = 120
EVERY_STEPS = 120
_LEVELS = (-2.2, 0.0, 2.2, 0.0)  # log-odds, in turn: so large a jump is outside any band
_WAVES = ((0.10, 61.0), (0.06, 17.0), (0.03, 7.0))  # log-odds and steps


class Replay:
    """The markets up to now."""

    async def read(self, now: float) -> Reading:
        """All prices of the last day and a bit."""
        steps = np.arange(now // STEP_S - POINTS + 1, now // STEP_S + 1)
        return Reading([_market(number, steps) for number in range(MARKETS)])


def _market(number: int, steps: np.ndarray) -> Quotes:
    turns = (steps + number * EVERY_STEPS // MARKETS) // EVERY_STEPS
    log_odds = np.array(_LEVELS)[(turns.astype(int) + number) % len(_LEVELS)]
    for size, period in _WAVES:
        log_odds = log_odds + size * np.sin(2 * np.pi * steps / period + number)
    prices = np.round(1 / (1 + np.exp(-log_odds)), 2)
    return Quotes(
        f"example-{number + 1:02}",
        (steps * STEP_S).tolist(),
        prices.tolist(),
        title=f"Example {number + 1} (made by a formula)",
        volume=1000.0 - number,
    )
