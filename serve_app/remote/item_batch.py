"""What a call from an Ingress to a Runner carries, and the Runner's desk that takes it in."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class ItemBatch(Generic[Q]):
    """Items of one sender, with numbers that the sender uses once."""

    sender: str
    items: Sequence[tuple[int, Q]]


class ItemTasks(Generic[Q, A]):
    """Starts the work for each item of a group, and gives the answers as they come."""

    def __init__(self, answer: Callable[[Q], Awaitable[A]]) -> None:
        self._answer = answer
        self._work: dict[Hashable, asyncio.Future[A]] = {}

    def __len__(self) -> int:
        """Items in work."""
        return len(self._work)

    def take(self, groups: Sequence[ItemBatch[Q]]) -> list[dict[asyncio.Future[A], int]]:
        """The work begun for each group, with the items' numbers."""
        return [self._begin(group) for group in groups]

    def _begin(self, group: ItemBatch[Q]) -> dict[asyncio.Future[A], int]:
        begun: dict[asyncio.Future[A], int] = {}
        for number, item in group.items:
            work = asyncio.ensure_future(self._answer(item))
            name = (group.sender, number)
            self._work[name] = work
            work.add_done_callback(partial(self._done, name))
            begun[work] = number
        return begun

    def _done(self, name: Hashable, _: asyncio.Future[A]) -> None:
        del self._work[name]

    async def parts(
        self, begun: dict[asyncio.Future[A], int]
    ) -> AsyncGenerator[list[tuple[int, A]]]:
        """The answers with their items' numbers; what is ready at the same time comes together.

        Leaving early drops what is not done yet; an item that was forgotten has no answer.
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
        """Drops work that nobody waits for any more; unknown numbers are done already."""
        for number in numbers:
            work = self._work.get((sender, number))
            if work is not None:
                work.cancel()
