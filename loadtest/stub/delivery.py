"""Sends an answer: complete, or broken as networks and proxies break it."""

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from starlette.types import Scope, Send

from loadtest.stub.faults import Fault, Kind
from loadtest.stub.server import reset

MB = 1024 * 1024
TRANSPORTS: MutableMapping[tuple[str, int], asyncio.Transport] = {}  # by the caller's address
_PAGE = b"<!doctype html><title>Maintenance</title><p>We will be back soon."
_SPELLINGS = {"null": b"null", "literal": b"NaN", "infinity": b"1e999", "digits": b"9" * 400}
_CRUMBS = b"1\r\n \r\n" * 10_000  # chunks of one byte
_AGAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


@dataclass(frozen=True, slots=True)
class Reply:
    """A response before it is sent."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


async def deliver(reply: Reply, fault: Fault | None, scope: Scope, send: Send) -> None:
    """Sends the reply, spoiled on the way when the fault is one of the wire."""
    if fault is None or reply.status != 200:
        await _whole(reply, send)
    elif spoil := _SPOILED.get(fault.kind):
        await _whole(replace(reply, body=spoil(reply.body, fault)), send)
    else:
        await _WAYS.get(fault.kind, _as_it_is)(reply, fault, scope, send)


@lru_cache(maxsize=1)
def gzip_bomb(size_mb: int) -> bytes:
    """A gzip stream of about a thousandth of ``size_mb`` that inflates to it: JSON and spaces.

    One block of spaces is deflated once and repeated: a full flush ends on a byte boundary and
    forgets the history, so the copies can stand side by side in one stream.
    """
    start, end = b'{"model":"mock","forecasts":[', b"]}"
    blank = b" " * (16 * MB)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    middle = packer.compress(blank) + packer.flush(zlib.Z_FULL_FLUSH)
    tail = packer.compress(end) + packer.flush(zlib.Z_FINISH)
    repeats = max(1, size_mb // 16)
    check, length = zlib.crc32(start), len(start) + repeats * len(blank) + len(end)
    for _ in range(repeats):
        check = zlib.crc32(blank, check)
    trailer = struct.pack("<II", zlib.crc32(end, check), length & 0xFFFFFFFF)
    return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff" + head + middle * repeats + tail + trailer


async def _whole(reply: Reply, send: Send) -> None:
    await _start(reply, send, len(reply.body))
    await send({"type": "http.response.body", "body": reply.body})


async def _start(reply: Reply, send: Send, length: int | None) -> None:
    headers = {"content-type": reply.content_type, **reply.headers}
    if length is not None:
        headers["content-length"] = str(length)
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": raw})


async def _streamed(
    reply: Reply, pieces: AsyncIterator[bytes], send: Send, length: int | None = None
) -> None:
    await _start(reply, send, length)
    async for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _drops(body: bytes, seconds: float, count: int = 100) -> AsyncIterator[bytes]:
    size = max(1, -(-len(body) // count))
    for at in range(0, len(body), size):
        yield body[at : at + size]
        await asyncio.sleep(seconds / count)


async def _flood(size_mb: int) -> AsyncIterator[bytes]:
    yield b'{"model":"mock","forecasts":['
    for _ in range(size_mb):
        yield b" " * MB
    yield b"]}"


async def _as_it_is(reply: Reply, _fault: Fault, _scope: Scope, send: Send) -> None:
    await _whole(reply, send)


async def _web_page(reply: Reply, _fault: Fault, _scope: Scope, send: Send) -> None:
    await _whole(Reply(200, _PAGE, reply.headers, "text/html"), send)


async def _bomb(reply: Reply, fault: Fault, _scope: Scope, send: Send) -> None:
    headers = {**reply.headers, "Content-Encoding": "gzip"}
    await _whole(Reply(200, gzip_bomb(int(fault.number(1100))), headers), send)


async def _drip(reply: Reply, fault: Fault, _scope: Scope, send: Send) -> None:
    await _streamed(reply, _drops(reply.body, fault.number(10)), send, len(reply.body))


async def _huge(reply: Reply, fault: Fault, _scope: Scope, send: Send) -> None:
    await _streamed(reply, _flood(int(fault.number(100))), send)


async def _endless(reply: Reply, _fault: Fault, scope: Scope, send: Send) -> None:
    await _start(reply, send, None)
    await send({"type": "http.response.body", "body": b" ", "more_body": True})
    connection = TRANSPORTS[scope["client"]]
    while not connection.is_closing():
        connection.write(_CRUMBS)
        await asyncio.sleep(0.01)


async def _twice(reply: Reply, _fault: Fault, scope: Scope, send: Send) -> None:
    connection = TRANSPORTS[scope["client"]]
    await _whole(reply, send)
    connection.write(_AGAIN % (len(reply.body), reply.body))


async def _reset(reply: Reply, _fault: Fault, scope: Scope, send: Send) -> None:
    """Half the promised body, then a TCP reset instead of a tidy end."""
    half = reply.body[: len(reply.body) // 2]
    await _start(reply, send, len(reply.body))
    await send({"type": "http.response.body", "body": half, "more_body": True})
    await asyncio.sleep(0.02)  # let the first half leave: a reset throws away what is queued
    reset(TRANSPORTS[scope["client"]])


_SPOILED: Mapping[Kind, Callable[[bytes, Fault], bytes]] = {
    Kind.TRUNCATED_JSON: lambda body, _: body[: len(body) // 2],
    Kind.NAN_VALUES: lambda body, fault: body.replace(
        b"null]", _SPELLINGS[fault.arg or "null"] + b"]"
    ),
    Kind.BAD_UTF8: lambda body, _: body.replace(b'"id":"', b'"id":"\xff'),
}
_WAYS: Mapping[Kind, Callable[[Reply, Fault, Scope, Send], Awaitable[None]]] = {
    Kind.WRONG_CONTENT_TYPE: _web_page,
    Kind.GZIP_BOMB: _bomb,
    Kind.SLOW_DRIP: _drip,
    Kind.HUGE_ANSWER: _huge,
    Kind.ENDLESS_CHUNKS: _endless,
    Kind.ANSWERED_TWICE: _twice,
    Kind.RESET_MID_BODY: _reset,
}
