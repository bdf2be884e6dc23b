"""An actor behind a Ray handle: looked up once, and again after a failed call."""

import asyncio
from collections.abc import Callable
from typing import Any


class ReconnectingActor:
    """Calls methods of an actor that may be restarted under a new handle.

    Ray's lookup is a blocking call that may take a minute while the head node is lost: it runs in a
    thread, and never more than one at a time.

    Args:
        look_up: returns the handle; raises while there is no such actor.
    """

    def __init__(self, look_up: Callable[[], Any]) -> None:
        self._look_up = look_up
        self._handle: asyncio.Future[Any] | None = None

    async def call(self, method: str, *args: object) -> Any:
        """One round trip; raises what the lookup, Ray or the method raises."""
        handle = self._handle
        if handle is None:
            handle = self._handle = asyncio.ensure_future(asyncio.to_thread(self._look_up))
        answered = False
        try:
            answer = await getattr(await asyncio.shield(handle), method).remote(*args)
            answered = True
            return answer
        finally:
            if not answered and handle.done() and self._handle is handle:
                self._handle = None
