"""One replica's way to the actor that keeps the boards."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from runner.errors import BoardUnavailableError
from serve_app.http.board_endpoint import RETRY_AFTER_S

LIMIT_S = 2.0
Boards = tuple[str, list[bytes]]  # a version that changes with every board, and all boards


class BoardClient:
    """Keeps and gives back boards; ``call_actor`` raises while the actor cannot be reached."""

    def __init__(self, call_actor: Callable[..., Awaitable[Any]]) -> None:
        self._call_actor = call_actor
        self._known: Boards = "", []

    async def put(self, watch: str, board: bytes) -> None:
        """Keeps the board of a watch; raises BoardUnavailableError."""
        try:
            await self._call("put", watch, board)
        except Exception as exc:
            raise BoardUnavailableError(RETRY_AFTER_S) from exc

    async def newest(self) -> Boards:
        """All boards, the newest first; those last known if the actor cannot be reached."""
        try:
            changed: Boards | None = await self._call("newest", self._known[0])
        except Exception:  # noqa: BLE001 - whatever Ray raises: a page is better with old prices
            return self._known
        if changed is not None:
            self._known = changed
        return self._known

    async def _call(self, method: str, *args: object) -> Any:
        async with asyncio.timeout(LIMIT_S):
            return await self._call_actor(method, *args)
