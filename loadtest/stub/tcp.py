"""The one thing asyncio has no word for: ending a connection rudely."""

import asyncio
import socket
import struct


def reset(transport: asyncio.WriteTransport) -> None:
    """Closes so that the peer gets RST: no lingering, no goodbye, what is queued is lost."""
    if transport.is_closing():
        return
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
