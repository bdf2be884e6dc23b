"""The two ways to fire: straight into the app, or as bytes on a connection to a running service."""

import asyncio
import http.client
import logging
import socket
from collections.abc import AsyncIterator, Callable
from time import perf_counter
from urllib.parse import urlsplit

import httpx
from starlette.types import ASGIApp

from tests.fuzz.shots import NoReplyError, Reply, Shot
from tests.fuzz.stack import Stack

LIMIT_S = 10.0  # of one request; the longest that a forecast may take by itself is 1.5 s
Send = Callable[[Shot], Reply]

logging.getLogger("serve_app.http.errors").disabled = True  # faults are counted here, not logged


class InProcess:
    """Fires into an app in this process, on an event loop that lives as long as the app."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._stack = Stack(self._runner.get_loop().time)

    def __call__(self, shot: Shot) -> Reply:
        return self._runner.run(fire(self._stack.app, shot))

    def close(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()


async def fire(app: ASGIApp, shot: Shot, limit_s: float = LIMIT_S) -> Reply:
    """The app's reply; status 500 where the app raises an error, as behind a server."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    url, headers = f"http://fuzz{shot.path}", list(shot.headers)
    request = httpx.Request(shot.method, url, headers=headers, content=_chunks(shot))
    began = perf_counter()
    try:
        async with asyncio.timeout(limit_s):
            response = await transport.handle_async_request(request)
    except TimeoutError as exc:
        raise NoReplyError(f"nothing within {limit_s:g} s") from exc
    elapsed_s, body = perf_counter() - began, await response.aread()
    return Reply(response.status_code, tuple(response.headers.raw), body, elapsed_s)


async def _chunks(shot: Shot) -> AsyncIterator[bytes]:
    for chunk in shot.chunks:
        yield chunk
    if not shot.ends:
        await asyncio.Event().wait()


class OverTheWire:
    """Fires at a service on this machine: a connection each, chunks as they are."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        if self._address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError("the fuzzer fires at services on this machine only")

    def __call__(self, shot: Shot) -> Reply:
        began = perf_counter()
        try:
            with socket.create_connection(self._address, timeout=LIMIT_S) as connection:
                _send_all(connection, shot)
                answer = http.client.HTTPResponse(connection, method=shot.method)
                answer.begin()
                body, headers = answer.read(), answer.getheaders()
        except (OSError, http.client.HTTPException) as exc:
            raise NoReplyError(f"no answer: {type(exc).__name__}") from exc
        raw = tuple((name.encode(), value.encode("latin-1")) for name, value in headers)
        return Reply(answer.status, raw, body, perf_counter() - began)

    def close(self) -> None:
        """Every connection has been closed already."""


def _send_all(connection: socket.socket, shot: Shot) -> None:
    head = b"%b %b HTTP/1.1\r\nHost: fuzz\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    lines = b"".join(b"%b: %b\r\n" % pair for pair in dict(shot.headers).items())
    try:
        connection.sendall(head % (shot.method.encode(), shot.path.encode()) + lines + b"\r\n")
        for chunk in filter(None, shot.chunks):
            connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if shot.ends:
            connection.sendall(b"0\r\n\r\n")
    except (BrokenPipeError, ConnectionResetError):
        pass  # refused before the end: the answer is there to be read
