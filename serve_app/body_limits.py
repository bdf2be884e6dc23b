"""How much of a body is read at once, and when others have a turn.

A parser builds the whole of a body before it complains about any of it, and holds the event loop
(and every thread) meanwhile. So bodies are read in parts of a bounded size.
"""

import asyncio
from collections.abc import Callable

AT_ONCE_BYTES = 32 * 1024  # what a parser is given at most: the worst takes it some 10 ms
SLICE_S = 0.005  # work between two turns of others


class Pace:
    """Gives other callers a turn between slices of long work; ``clock`` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()

    async def rest(self) -> None:
        """Once a slice is over, everybody else who is ready has a turn."""
        if self._clock() - self._began >= SLICE_S:
            await asyncio.sleep(0)
            self._began = self._clock()
