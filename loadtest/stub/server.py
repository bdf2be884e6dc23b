"""A server that says where it listens once it does, and a connection's end by TCP reset."""

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

import uvicorn


class Server(uvicorn.Server):
    """Leaves at the first signal. ``announce`` gets the address; ``options`` go to uvicorn."""

    def __init__(self, app: Any, announce: Callable[[str], None], **options: Any) -> None:
        quiet = {"log_level": "error", "access_log": False, "lifespan": "off"}
        super().__init__(uvicorn.Config(app, **{**quiet, **options}))
        self._announce = announce

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = self.force_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        self._announce(f"http://{host}:{port}")

    async def serve_and_leave(self) -> NoReturn:
        """Serves until a signal comes, then ends the process."""
        await self.serve()
        os._exit(0)  # calls that hang would only be cancelled, and each cancellation logged


def reset(transport: asyncio.WriteTransport) -> None:
    """Closes so that the peer gets RST: queued data is lost. asyncio has no method for it."""
    if transport.is_closing():
        return
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
