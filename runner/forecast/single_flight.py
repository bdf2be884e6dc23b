"""One piece of work per key, however many wait for it.

Who waits may give up at a deadline: the work goes on, its result is still wanted for the cache. Who
leaves (is cancelled) takes the work along only when nobody else wants it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from runner.errors import TooLateError

V = TypeVar("V")


@dataclass(slots=True)
class _Flight(Generic[V]):
    task: asyncio.Task[V]
    waiting: int = 0
    wanted: bool = False  # somebody timed out: the late result still has a use


class SingleFlight(Generic[V]):
    """Joins callers of the same key onto one running task."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[V]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def running(self, key: Hashable) -> bool:
        """Whether somebody is already at work for ``key``."""
        return key in self._flights

    async def join(self, key: Hashable, start: Callable[[], Awaitable[V]], timeout_s: float) -> V:
        """The result of the work for ``key``, started here if nobody has yet.

        Raises:
            TooLateError: it took longer than ``timeout_s``; the work goes on.
        """
        flight = self._flights.get(key) or self._take_off(key, start)
        flight.waiting += 1
        try:
            done, _ = await asyncio.wait((flight.task,), timeout=timeout_s)
        except asyncio.CancelledError:
            if flight.waiting == 1 and not flight.wanted:
                self._flights.pop(key, None)  # whoever comes next must not join a cancelled task
                flight.task.cancel()
            raise
        finally:
            flight.waiting -= 1
        if not done:
            flight.wanted = True
            raise TooLateError
        return flight.task.result()

    def _take_off(self, key: Hashable, start: Callable[[], Awaitable[V]]) -> _Flight[V]:
        flight = _Flight(asyncio.ensure_future(_run(start)))
        self._flights[key] = flight
        flight.task.add_done_callback(lambda _: self._land(key, flight))
        return flight

    def _land(self, key: Hashable, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.task.cancelled():
            flight.task.exception()  # marks it as seen: with no waiter left nobody else would


async def _run(start: Callable[[], Awaitable[V]]) -> V:
    return await start()
