"""An answer that many may ask for and that is fetched once: kept for a moment, waited for briefly.

Whatever goes wrong or takes too long is None: not known. An attempt that hangs is left to itself,
and nobody starts a second one beside it.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")
logger = logging.getLogger(__name__)


class CachedCall(Generic[T]):
    """The latest answer of ``ask``, no older than ``kept_s``; ``clock`` is monotonic."""

    def __init__(
        self,
        ask: Callable[[], Coroutine[Any, Any, T]],
        clock: Callable[[], float],
        *,
        kept_s: float,
        limit_s: float,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._kept_s = kept_s
        self._limit_s = limit_s
        self._asking: asyncio.Task[T] | None = None
        self._good_until = float("-inf")

    async def __call__(self) -> T | None:
        """The answer, or None while there is none."""
        if self._asking is None or (self._asking.done() and self._clock() >= self._good_until):
            self._asking = asyncio.ensure_future(self._ask())
            self._good_until = self._clock() + self._kept_s
        asking = self._asking
        await asyncio.wait((asking,), timeout=self._limit_s)
        if not asking.done() or asking.cancelled():
            return None
        error = asking.exception()
        if error is not None:
            logger.info("not known: %s", type(error).__name__)
            return None
        return asking.result()
