"""The two ways to fire: straight into the app, or as bytes on a connection to a running service."""

import asyncio
import http.client
import logging
import socket
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message

from tests.fuzz.shots import NoReplyError, Reply, Shot
from tests.fuzz.stack import Stack

LIMIT_S = 10.0  # of one request; the longest that a forecast may take by itself is 1.5 s
Send = Callable[[Shot], Reply]

logging.getLogger("serve_app.http.errors").disabled = True  # faults are counted here, not logged


class InProcess:
    """Fires into an app in this process, on an event loop that lives as long as the app."""

    def __init__(self, **sections: Any) -> None:
        self._runner = asyncio.Runner()
        self._stack = self._runner.run(_built(partial(Stack, **sections)))

    def __call__(self, shot: Shot) -> Reply:
        return self._runner.run(fire(self._stack.app, shot))

    def close(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()


async def _built(build: Callable[[], Stack]) -> Stack:
    return build()


async def fire(app: ASGIApp, shot: Shot, limit_s: float = LIMIT_S) -> Reply:
    """The app's reply; whatever it raises after its 500 is what a server would log."""
    messages = iter(_messages(shot))
    sent: list[Message] = []

    async def receive() -> Message:
        message = next(messages, None)
        if message is None:
            await asyncio.Event().wait()
        return message or {}

    async def send(message: Message) -> None:
        sent.append(message)

    began = perf_counter()
    try:
        async with asyncio.timeout(limit_s):
            await app(_scope(shot), receive, send)
    except TimeoutError as exc:
        raise NoReplyError(f"nothing within {limit_s:g} s") from exc
    except Exception:  # noqa: BLE001 - Starlette raises on after its 500: the status tells
        pass
    return _reply(sent, perf_counter() - began)


def _messages(shot: Shot) -> list[Message]:
    last = len(shot.chunks) - 1
    return [
        {"type": "http.request", "body": chunk, "more_body": i < last or not shot.ends}
        for i, chunk in enumerate(shot.chunks or (b"",))
    ]


def _scope(shot: Shot) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": shot.method,
        "scheme": "http",
        "path": shot.path,
        "raw_path": shot.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in shot.headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }


def _reply(sent: list[Message], elapsed_s: float) -> Reply:
    if not sent:
        raise NoReplyError("the app ended without an answer")
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return Reply(sent[0]["status"], tuple(sent[0]["headers"]), body, elapsed_s)


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
    given: Mapping[bytes, bytes] = dict(shot.headers)
    head = b"%b %b HTTP/1.1\r\nHost: fuzz\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    lines = b"".join(b"%b: %b\r\n" % pair for pair in given.items())
    try:
        connection.sendall(head % (shot.method.encode(), shot.path.encode()) + lines + b"\r\n")
        for chunk in filter(None, shot.chunks):
            connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if shot.ends:
            connection.sendall(b"0\r\n\r\n")
    except (BrokenPipeError, ConnectionResetError):
        pass  # refused before the end: the answer is there to be read
