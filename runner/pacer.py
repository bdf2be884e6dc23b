"""Divides long work into time slices, so that it never blocks the event loop for longer than one.

All batches of a replica share one pacer: at most one slice runs in a turn of the loop, and waiting
batches get their slices in the order of their arrival.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
SLICE_S = 0.003  # a single request needs about ten turns of the loop: 30 ms of its 300


class Pacer:
    """Divides the time of an event loop; ``clock`` is monotonic, in seconds.

    While ``others_wait`` returns True (single requests are in flight), the loop is free for them
    after each slice for as long as a slice lasts.
    """

    def __init__(
        self, clock: Callable[[], float], others_wait: Callable[[], bool] = lambda: False
    ) -> None:
        self._clock = clock
        self._others_wait = others_wait
        self._turn = asyncio.Lock()
        self._slice_ends = 0.0

    async def rest(self) -> None:
        """Call before each small piece of work: waits only if the slice is over."""
        if self._clock() < self._slice_ends:
            return
        async with self._turn:
            while self._clock() >= self._slice_ends:  # else another batch has not used up its slice
                await asyncio.sleep(SLICE_S if self._others_wait() else 0)
                self._slice_ends = self._clock() + SLICE_S

    async def over(self, items: Iterable[T]) -> AsyncIterator[T]:
        """The items, with a `rest` before each."""
        for item in items:
            await self.rest()
            yield item
