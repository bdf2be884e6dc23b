"""A pool of keep-alive HTTP/1.1 connections that costs next to nothing.

The load generator shares the cores with what it measures: a general client would be half the load.
"""

import asyncio
import ssl
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from httptools import HttpResponseParser


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to post, with everything about the request that does not change."""

    host: str
    port: int
    secure: bool
    head: bytes

    def request(self, body: bytes) -> bytes:
        return b"%b%d\r\n\r\n%b" % (self.head, len(body), body)


class Answer(NamedTuple):
    status: int
    body: bytes
    retry_after: bool = False  # it has this header


def endpoint(url: str, path: str, accept: str = "application/json") -> Endpoint:
    """``path`` under ``url``; a ValueError if that is not http:// or https:// with a host."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not an http:// or https:// address")
    secure = parts.scheme == "https"
    head = (
        f"POST {parts.path.rstrip('/')}{path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Type: application/json\r\nAccept: {accept}\r\nContent-Length: "
    )
    return Endpoint(parts.hostname, parts.port or (443 if secure else 80), secure, head.encode())


class Pool:
    """Connections to one endpoint: an idle one is used again, a new one made when all are busy."""

    def __init__(self, target: Endpoint, timeout_s: float) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._idle: list[_Connection] = []

    async def ask(self, body: bytes) -> Answer:
        """The whole answer; an OSError (or TimeoutError) without a connection that works."""
        async with asyncio.timeout(self._timeout_s):
            connection = await self._connected()
            answer = await connection.exchange(self._target.request(body))
        self._idle.append(connection)
        return answer

    async def _connected(self) -> "_Connection":
        while self._idle:
            if not (connection := self._idle.pop()).done:
                return connection
        context = ssl.create_default_context() if self._target.secure else None
        _, connection = await asyncio.get_running_loop().create_connection(
            _Connection, self._target.host, self._target.port, ssl=context
        )
        return connection

    def close(self) -> None:
        while self._idle:
            self._idle.pop().transport.abort()


class _Connection(asyncio.Protocol):
    """One request and its answer at a time; methods beyond asyncio's own are the parser's."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.done = False  # no further request may go this way
        self._parser = HttpResponseParser(self)
        self._answer: asyncio.Future[Answer] | None = None
        self._parts: list[bytes] = []
        self._retry_after = False

    async def exchange(self, request: bytes) -> Answer:
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        try:
            return await self._answer
        except BaseException:
            self.transport.abort()
            raise

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.done = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the connection broke"))

    def on_message_begin(self) -> None:
        self._parts, self._retry_after = [], False

    def on_header(self, name: bytes, _value: bytes) -> None:
        self._retry_after |= name.lower() == b"retry-after"

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)

    def on_message_complete(self) -> None:
        self.done |= not self._parser.should_keep_alive()
        if self._answer is not None and not self._answer.done():
            body = b"".join(self._parts)
            self._answer.set_result(Answer(self._parser.get_status_code(), body, self._retry_after))
