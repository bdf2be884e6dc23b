"""One keep-alive HTTP/1.1 connection that costs next to nothing.

The load generator shares the cores with what it measures: a general client would be half the load.
"""

import asyncio
import ssl
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit


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
    """An answer; its head is in lower case, with the status line."""

    status: int
    body: bytes
    head: bytes

    def header(self, name: str) -> str | None:
        """The first header of that name, given in small letters."""
        at = self.head.find(b"\r\n%b:" % name.encode())
        value = self.head[at + len(name) + 3 :].split(b"\r\n", 1)[0] if at >= 0 else None
        return None if value is None else value.decode("latin-1").strip()


def endpoint(url: str, path: str, accept: str = "application/json") -> Endpoint:
    """Where ``path`` under ``url`` is, and the kind of answer that is asked for.

    Raises:
        ValueError: the address is not http:// or https:// with a host.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not an http:// or https:// address")
    secure = parts.scheme == "https"
    head = (
        f"POST {parts.path.rstrip('/')}{path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Type: application/json\r\nAccept: {accept}\r\nContent-Length: "
    )
    return Endpoint(parts.hostname, parts.port or (443 if secure else 80), secure, head.encode())


class Connection:
    """Posts to one endpoint, one request at a time; connects when it must."""

    def __init__(self, target: Endpoint, timeout_s: float) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._protocol: _Protocol | None = None

    async def ask(self, body: bytes) -> Answer:
        """The whole answer.

        Raises:
            OSError: no connection, or it broke; TimeoutError is one of them.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                protocol = await self._connected()
                return await protocol.exchange(self._target.request(body))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._protocol is not None:
            self._protocol.transport.abort()
            self._protocol = None

    async def _connected(self) -> "_Protocol":
        if self._protocol is None or self._protocol.done:
            context = ssl.create_default_context() if self._target.secure else None
            _, self._protocol = await asyncio.get_running_loop().create_connection(
                _Protocol, self._target.host, self._target.port, ssl=context
            )
        return self._protocol


class Pool:
    """Connections to one endpoint: an idle one is used again, a new one made when all are busy."""

    def __init__(self, target: Endpoint, timeout_s: float) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._idle: list[Connection] = []

    async def ask(self, body: bytes) -> Answer:
        """The whole answer; raises as ``Connection.ask`` does."""
        connection = self._idle.pop() if self._idle else Connection(self._target, self._timeout_s)
        answer = await connection.ask(body)
        self._idle.append(connection)
        return answer

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


class _Protocol(asyncio.Protocol):
    """Reads one answer after the other: by length, in chunks, or to the end of the connection."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.done = False  # no further request may go this way
        self._data = bytearray()
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    async def exchange(self, request: bytes) -> Answer:
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._data += data
        self._try_to_answer(ended=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self.done = True
        self._try_to_answer(ended=True)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the connection broke"))

    def _try_to_answer(self, ended: bool) -> None:
        head_end = self._data.find(b"\r\n\r\n")
        if head_end < 0 or self._answer is None or self._answer.done():
            return
        head = bytes(self._data[:head_end]).lower()
        body = _body(head, self._data, head_end + 4, ended)
        if body is not None:
            self.done |= b"\r\nconnection: close" in head
            self._data.clear()
            self._answer.set_result(Answer(int(head[9:12]), body, head))


def _body(head: bytes, data: bytearray, start: int, ended: bool) -> bytes | None:
    """The body when it is complete, else None."""
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        length = int(head[at + 17 :].split(b"\r\n", 1)[0])
        return bytes(data[start : start + length]) if len(data) >= start + length else None
    if b"\r\ntransfer-encoding: chunked" in head:
        return _dechunked(data, start)
    return bytes(data[start:]) if ended else None


def _dechunked(data: bytearray, at: int) -> bytes | None:
    parts: list[bytes] = []
    while (line_end := data.find(b"\r\n", at)) >= 0:
        size = int(bytes(data[at:line_end]).split(b";")[0], 16)
        at = line_end + 2
        if len(data) < at + size + 2:
            return None
        if size == 0:
            return b"".join(parts)
        parts.append(bytes(data[at : at + size]))
        at += size + 2
    return None
