"""Admission of batches: how many a replica works on, the queue of the others, their deadlines.

**The queue** (`BatchQueue`). The size of a batch is its body's bytes, and at least 2,000 per item:
that is known before parsing, and memory and time of a batch grow with it. Batches are admitted, and
refused, in the order in which they arrived.

**The cost** (`BatchCost`). A batch takes at least the time to read it and to compute the baseline
for each item. A deadline that is too short for that is refused at once, instead of answered late.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil

from runner.errors import InvalidRequestError, OverloadedError
from runner.pacer import Pacer

# Measured on one core of 2.5 GHz, with a margin for a busy one.
READ_S_PER_BYTE = 45e-9  # parsing, and other work that grows with the length of the series
READ_S_PER_ITEM = 60e-6
ANSWER_S_PER_ITEM = 75e-6
ANSWER_S_PER_STEP = 75e-9  # a number in or out
GRACE_S = 0.03  # part of the 50 ms by which an answer may be late
SLOWEST = 4.0  # upper limit of the slowness factor
TELLING_BYTES = 100_000  # reading times of shorter bodies are too noisy an estimate of slowness
_LEARNS = 0.3  # weight of the newest batch in the moving average of the slowness

_NUMBER = rb"([0-9][0-9.eE+-]*)"
_AHEAD = re.compile(rb'\s*\{\s*"deadline_ms"\s*:\s*' + _NUMBER + rb"\s*,")
_BEHIND = re.compile(rb'\]\s*,\s*"deadline_ms"\s*:\s*' + _NUMBER + rb"\s*\}\s*$")
_TAIL_BYTES = 200


class BatchCost:
    """Time estimates, times a factor: how much longer than usual the last batches took to read."""

    def __init__(self) -> None:
        self._slowness = 1.0

    def was_read(self, size_bytes: int, items: int, took_s: float) -> None:
        """Updates the factor with a body that was read in ``took_s``."""
        if size_bytes < TELLING_BYTES:
            return
        usual_s = READ_S_PER_BYTE * size_bytes + READ_S_PER_ITEM * items
        slowness = min(max(took_s / usual_s, 1.0), SLOWEST)
        self._slowness += _LEARNS * (slowness - self._slowness)

    def least_s(self, size_bytes: int, items: int) -> float:
        """The least time for a batch that is not parsed yet."""
        each_s = READ_S_PER_ITEM + ANSWER_S_PER_ITEM
        return self._slowness * (size_bytes * READ_S_PER_BYTE + items * each_s)

    def answering_s(self, items: int, steps: int) -> float:
        """Time to compute the baseline for ``items``; ``steps`` is their numbers in and out."""
        return self._slowness * (items * ANSWER_S_PER_ITEM + steps * ANSWER_S_PER_STEP)


_ITEM = b'"market_id"'
_WINDOW_BYTES = 2_000_000  # 3 ms for the worst text


async def count_items(body: bytes, pacer: Pacer) -> int:
    """The number of items of a batch that is not parsed yet, in slices: each has a market_id."""
    items = 0
    for at in range(0, len(body), _WINDOW_BYTES):
        await pacer.rest()
        items += body.count(_ITEM, at, at + _WINDOW_BYTES + len(_ITEM) - 1)
    return items


def check_deadline(limit_s: float, spent_s: float, least_s: float) -> None:
    """Refuses a deadline that cannot be kept; ``spent_s`` of it has passed, ``least_s`` is needed.

    Raises:
        InvalidRequestError: it names the deadline that such a batch needs.
    """
    if spent_s + least_s > limit_s + GRACE_S:
        needed_ms = ceil((spent_s + least_s) * 100) * 10
        message = (
            f"A batch of this size needs {needed_ms} ms; allow that much, or send fewer items."
        )
        raise InvalidRequestError("deadline_ms", message)


def peeked_deadline_ms(body: bytes) -> float | None:
    """The deadline of a batch that is not parsed yet, if it is the first or last field of the body.

    >>> peeked_deadline_ms(b'{"requests": [{}], "deadline_ms": 50.5}')
    50.5
    >>> peeked_deadline_ms(b'{"requests": [{"deadline_ms": 50}]}')
    """
    found = _AHEAD.match(body) or _BEHIND.search(body, max(0, len(body) - _TAIL_BYTES))
    try:
        return float(found[1]) if found else None
    except ValueError:  # parsing will report the error
        return None


ITEM_BYTES = 2_000
# Two batches of 2,000 items, or the equivalent: one is read and written while the model computes
# the other, and both together fit into the model queue (batching.max_queued_items).
AT_ONCE_BYTES = 8_000_000
WAITING_BYTES = 32_000_000  # eight such batches: the last of them is admitted after about 12 s
RETRY_AFTER_S = 5.0  # about the time in which two such batches are answered


class BatchQueue:
    """A bounded first-in, first-out queue. A batch of any size is admitted when it is alone."""

    def __init__(self) -> None:
        self._inside: dict[asyncio.Future[None], int] = {}
        self._waiting: dict[asyncio.Future[None], int] = {}

    @asynccontextmanager
    async def place(self, size_bytes: int, wait_s: float, hold_s: float) -> AsyncIterator[None]:
        """Admission of one batch: waits at most ``wait_s``, holds the place at most ``hold_s``.

        After ``hold_s`` the place is free again, so that a slow reader does not delay others.

        Raises:
            OverloadedError: the queue is full, or the wait was too long.
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
        """Removes a waiting or admitted batch; a second call does nothing."""
        self._waiting.pop(place, None)
        self._inside.pop(place, None)
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            place, size_bytes = next(iter(self._waiting.items()))
            if self._inside and sum(self._inside.values()) + size_bytes > AT_ONCE_BYTES:
                return
            self._inside[place] = self._waiting.pop(place)
            if not place.done():  # else its caller has disconnected
                place.set_result(None)
