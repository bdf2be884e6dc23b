"""Items on their way to one deployment share calls: the call costs more than what it carries.

In each lane a call leaves at most once per interval: the first item leaves in the same turn of the
loop, what comes within the interval after it travels in the next call. A call's answers come back
as they are ready, so nobody waits for who travels along.

A shared call belongs to nobody in particular: it runs outside the context of whoever was first.
Serve cancels what an HTTP request has called when its caller leaves, and would cancel it for all.
"""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")
NumberedItems = Sequence[tuple[int, Q]]  # with their numbers
NumberedAnswers = Sequence[tuple[int, A]]  # likewise


class UnansweredError(Exception):
    """A call ended without an answer for one of its items."""


@dataclass(slots=True, eq=False)
class _Item(Generic[Q, A]):
    number: int
    item: Q
    answer: asyncio.Future[A]
    sent: bool = False


@dataclass(slots=True, eq=False)
class _Lane(Generic[Q, A]):
    waiting: list[_Item[Q, A]] = field(default_factory=list)
    next_at: float = 0.0  # on the loop's clock
    timer: asyncio.TimerHandle | None = None


class CallCoalescer(Generic[Q, A]):
    """Asks for items one by one, sends them together."""

    def __init__(
        self,
        send: Callable[[NumberedItems[Q]], AsyncIterator[NumberedAnswers[A]]],
        forget: Callable[[Sequence[int]], Awaitable[None]],
        interval_s: float,
        most: int,
    ) -> None:
        """Needs no running loop yet.

        Args:
            send: makes one call with numbered items and gives their answers, in parts, as they
                come; an exception is the answer of every item that has none yet.
            forget: told the numbers of sent items that nobody waits for any more, some at a time;
                does not raise.
            interval_s: the least time between two calls of a lane.
            most: items in one call.
        """
        self._send = send
        self._forget = forget
        self._interval_s = interval_s
        self._most = most
        self._lanes: dict[Hashable, _Lane[Q, A]] = {}
        self._numbers = count()
        self._tasks: set[asyncio.Future[None]] = set()  # the loop itself would let go of them
        self._left: list[int] = []
        self._nobodys = contextvars.Context()

    async def ask(self, lane_name: Hashable, item: Q) -> A:
        """The answer of one item; whoever is cancelled takes the item back.

        Raises:
            UnansweredError: the call ended without an answer for it.
            Exception: what ``send`` raised.
        """
        loop = asyncio.get_running_loop()
        lane = self._lanes.setdefault(lane_name, _Lane())
        entry: _Item[Q, A] = _Item(next(self._numbers), item, loop.create_future())
        lane.waiting.append(entry)
        if lane.timer is None:
            at = max(lane.next_at, loop.time())
            lane.timer = loop.call_at(at, self._depart, lane, context=self._nobodys)
        elif len(lane.waiting) == self._most:
            lane.timer.cancel()
            self._nobodys.run(self._depart, lane)
        try:
            return await entry.answer
        except asyncio.CancelledError:
            if entry.sent:
                self._take_back(entry.number, loop)
            raise

    def _depart(self, lane: _Lane[Q, A]) -> None:
        lane.timer = None
        lane.next_at = asyncio.get_running_loop().time() + self._interval_s
        aboard = [entry for entry in lane.waiting if not entry.answer.done()]
        lane.waiting = []
        if aboard:
            self._run(self._carry(aboard))

    async def _carry(self, aboard: Sequence[_Item[Q, A]]) -> None:
        waiting = {entry.number: entry.answer for entry in aboard}
        for entry in aboard:
            entry.sent = True
        error: Exception = UnansweredError()
        try:
            async for part in self._send([(entry.number, entry.item) for entry in aboard]):
                for number, answer in part:
                    _settle(waiting.pop(number), answer)
        except Exception as exc:  # noqa: BLE001 - handed on to everybody who waits for it
            error = exc
        for left in waiting.values():
            if not left.done():
                left.set_exception(error)

    def _take_back(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        if not self._left:
            loop.call_later(self._interval_s, self._tell, context=self._nobodys)
        self._left.append(number)

    def _tell(self) -> None:
        left, self._left = self._left, []
        self._run(self._forget(left))

    def _run(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _settle(waiting: asyncio.Future[A], answer: A) -> None:
    if not waiting.done():  # else its caller has left
        waiting.set_result(answer)
