"""How many batches one replica works on, and in which order the others wait.

Batches are counted by the bytes of their bodies, 2,000 for an item at least: that is known before
anything is parsed, and both the memory and the time that a batch takes grow with it. They are let
in, and turned away, in the order in which they came.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runner.errors import OverloadedError

ITEM_BYTES = 2_000
# Two batches of 2,000 items, or what takes as long: one is prepared and written while the model is
# at the other, and both together fit into its line (batching.max_queued_items).
AT_ONCE_BYTES = 8_000_000
WAITING_BYTES = 32_000_000  # eight such batches: the last of them is let in after about 12 s
RETRY_AFTER_S = 5.0  # two such batches have left by then


class BatchLine:
    """A bounded line, first come first served. A batch of any size gets in where it is alone."""

    def __init__(self) -> None:
        self._inside: dict[asyncio.Future[None], int] = {}
        self._waiting: dict[asyncio.Future[None], int] = {}

    @asynccontextmanager
    async def place(self, size_bytes: int, wait_s: float, hold_s: float) -> AsyncIterator[None]:
        """A place inside, after ``wait_s`` at most, for ``hold_s`` at most.

        Whoever takes longer to read an answer has lost the place: others are not held up by that.

        Raises:
            OverloadedError: the line is full, or it took too long.
        """
        loop = asyncio.get_running_loop()
        place = loop.create_future()
        try:
            await self._enter(place, size_bytes, wait_s)
            leaving = loop.call_later(hold_s, self._leave, place)
            try:
                yield
            finally:
                leaving.cancel()
        finally:
            self._leave(place)

    async def _enter(self, place: asyncio.Future[None], size_bytes: int, wait_s: float) -> None:
        ahead = sum(self._waiting.values())
        self._waiting[place] = size_bytes
        self._let_in()
        if place.done():
            return
        if ahead and ahead + size_bytes > WAITING_BYTES:
            raise OverloadedError(RETRY_AFTER_S)
        try:
            async with asyncio.timeout(wait_s):
                await place
        except TimeoutError as exc:
            raise OverloadedError(RETRY_AFTER_S) from exc

    def _leave(self, place: asyncio.Future[None]) -> None:
        """Out of the line, waiting or inside; a second time does nothing."""
        self._waiting.pop(place, None)
        self._inside.pop(place, None)
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            place, size_bytes = next(iter(self._waiting.items()))
            if self._inside and sum(self._inside.values()) + size_bytes > AT_ONCE_BYTES:
                return
            self._inside[place] = self._waiting.pop(place)
            if not place.done():  # else its caller has just left
                place.set_result(None)
