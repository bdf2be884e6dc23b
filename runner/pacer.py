"""Long work in slices, so that an event loop never keeps others waiting for more than one.

All batches of a replica share one pacer: only one slice runs in a turn of the loop, whoever it is
for, and batches take turns in the order in which they came.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
SLICE_S = 0.003  # a single request needs about ten turns of the loop: 30 ms of its 300


class Pacer:
    """Divides the time of a loop; ``clock`` is monotonic, in seconds.

    While ``others_wait`` says that single requests are under way, the loop is theirs for as long
    after each slice as the slice took.
    """

    def __init__(
        self, clock: Callable[[], float], others_wait: Callable[[], bool] = lambda: False
    ) -> None:
        self._clock = clock
        self._others_wait = others_wait
        self._turn = asyncio.Lock()
        self._slice_ends = 0.0

    async def rest(self) -> None:
        """Call before each small piece of work: waits only where a slice is over."""
        if self._clock() < self._slice_ends:
            return
        async with self._turn:
            while self._clock() >= self._slice_ends:  # else one that ended early left us some time
                await asyncio.sleep(SLICE_S if self._others_wait() else 0)
                self._slice_ends = self._clock() + SLICE_S

    async def over(self, items: Iterable[T]) -> AsyncIterator[T]:
        """The items, with a rest before each."""
        for item in items:
            await self.rest()
            yield item
