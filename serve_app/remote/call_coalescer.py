"""Items for one deployment share calls, because a call costs more than its content.

For each key there is at most one call per interval. The first item is sent in the same turn of the
event loop; items that arrive within the interval after it are sent with the next call. Each answer
comes back when it is ready, so no item waits for another. `ItemBatch` is the content of a call,
`ItemTasks` receives it at the Runner.

A shared call runs in an empty context: when a caller disconnects, Serve cancels what its request
has called, and must not cancel the call of all others.
"""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class ItemBatch(Generic[Q]):
    """Items of one sender, with numbers that are unique for this sender."""

    sender: str
    items: Sequence[tuple[int, Q]]


class ItemTasks(Generic[Q, A]):
    """Starts a task for each item of an item batch, and gives the answers as they become ready."""

    def __init__(self, answer: Callable[[Q], Awaitable[A]]) -> None:
        self._answer = answer
        self._work: dict[Hashable, asyncio.Future[A]] = {}

    def __len__(self) -> int:
        """The number of running tasks."""
        return len(self._work)

    def take(self, batches: Sequence[ItemBatch[Q]]) -> list[dict[asyncio.Future[A], int]]:
        """Starts the tasks of each item batch; returns them with the items' numbers."""
        return [self._begin(batch) for batch in batches]

    def _begin(self, batch: ItemBatch[Q]) -> dict[asyncio.Future[A], int]:
        begun: dict[asyncio.Future[A], int] = {}
        for number, item in batch.items:
            work = asyncio.ensure_future(self._answer(item))
            name = (batch.sender, number)
            self._work[name] = work
            work.add_done_callback(partial(self._done, name))
            begun[work] = number
        return begun

    def _done(self, name: Hashable, _: asyncio.Future[A]) -> None:
        del self._work[name]

    async def parts(
        self, begun: dict[asyncio.Future[A], int]
    ) -> AsyncGenerator[list[tuple[int, A]]]:
        """The answers with their items' numbers; those ready at the same time come together.

        Closing the generator early cancels unfinished tasks; a cancelled item has no answer.
        """
        waiting = dict(begun)
        try:
            while waiting:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                numbered = [(waiting.pop(work), work) for work in done]
                yield [(number, work.result()) for number, work in numbered if not work.cancelled()]
        finally:
            for work in waiting:
                work.cancel()

    def forget(self, sender: str, numbers: Sequence[int]) -> None:
        """Cancels the tasks of abandoned items; unknown numbers are finished already."""
        for number in numbers:
            work = self._work.get((sender, number))
            if work is not None:
                work.cancel()


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
class _Queue(Generic[Q, A]):
    waiting: list[_Item[Q, A]] = field(default_factory=list)
    next_at: float = 0.0  # on the loop's clock
    timer: asyncio.TimerHandle | None = None


class CallCoalescer(Generic[Q, A]):
    """Takes items one by one, and sends them together."""

    def __init__(
        self,
        send: Callable[[NumberedItems[Q]], AsyncIterator[NumberedAnswers[A]]],
        forget: Callable[[Sequence[int]], Awaitable[None]],
        interval_s: float,
        most: int,
    ) -> None:
        """Needs no running loop yet.

        Args:
            send: makes one call with numbered items and gives their answers in parts, as they
                become ready; an exception is raised for every item without an answer yet.
            forget: called with the numbers of sent items that were abandoned; does not raise.
            interval_s: the least time between two calls of a queue.
            most: the largest number of items in one call.
        """
        self._send = send
        self._forget = forget
        self._interval_s = interval_s
        self._most = most
        self._queues: dict[Hashable, _Queue[Q, A]] = {}
        self._numbers = count()
        self._tasks: set[asyncio.Future[None]] = set()  # the loop holds only weak references
        self._abandoned: list[int] = []
        self._empty_context = contextvars.Context()

    async def ask(self, key: Hashable, item: Q) -> A:
        """The answer of one item; cancelling this abandons the item.

        Raises:
            UnansweredError: the call ended without an answer for it.
            Exception: what ``send`` raised.
        """
        loop = asyncio.get_running_loop()
        queue = self._queues.setdefault(key, _Queue())
        entry: _Item[Q, A] = _Item(next(self._numbers), item, loop.create_future())
        queue.waiting.append(entry)
        if queue.timer is None:
            at = max(queue.next_at, loop.time())
            queue.timer = loop.call_at(at, self._start_call, queue, context=self._empty_context)
        elif len(queue.waiting) == self._most:
            queue.timer.cancel()
            self._empty_context.run(self._start_call, queue)
        try:
            return await entry.answer
        except asyncio.CancelledError:
            if entry.sent:
                self._abandon(entry.number, loop)
            raise

    def _start_call(self, queue: _Queue[Q, A]) -> None:
        queue.timer = None
        queue.next_at = asyncio.get_running_loop().time() + self._interval_s
        items = [entry for entry in queue.waiting if not entry.answer.done()]
        queue.waiting = []
        if items:
            self._run(self._send_batch(items))

    async def _send_batch(self, items: Sequence[_Item[Q, A]]) -> None:
        waiting = {entry.number: entry.answer for entry in items}
        for entry in items:
            entry.sent = True
        error: Exception = UnansweredError()
        try:
            async for part in self._send([(entry.number, entry.item) for entry in items]):
                for number, answer in part:
                    _settle(waiting.pop(number), answer)
        except Exception as exc:  # noqa: BLE001 - raised for every item without an answer
            error = exc
        for left in waiting.values():
            if not left.done():
                left.set_exception(error)

    def _abandon(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        if not self._abandoned:
            loop.call_later(self._interval_s, self._forget_abandoned, context=self._empty_context)
        self._abandoned.append(number)

    def _forget_abandoned(self) -> None:
        left, self._abandoned = self._abandoned, []
        self._run(self._forget(left))

    def _run(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _settle(waiting: asyncio.Future[A], answer: A) -> None:
    if not waiting.done():  # else it was abandoned
        waiting.set_result(answer)
