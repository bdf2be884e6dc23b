"""Reading a request's body, with limits of size and time, and its deadline."""

import asyncio
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from runner.errors import BodyTimeoutError, BodyTooLargeError, InvalidRequestError

DEADLINE_HEADER = "x-request-deadline-ms"
# The most bytes in one call of the parser: the worst case takes about 10 ms. The parser builds the
# whole body before it reports an error, and blocks the event loop and all threads meanwhile.
AT_ONCE_BYTES = 32 * 1024


async def read_body(receive: Receive, limit_bytes: int, limit_s: float) -> bytes:
    """The whole body, counted and timed while it streams in.

    Raises:
        BodyTooLargeError: more than ``limit_bytes`` were received, whatever Content-Length said.
        BodyTimeoutError: it was not complete after ``limit_s``.
        ClientDisconnect: the caller disconnected.
    """
    first = await _within(receive, limit_s, limit_s)
    body: bytes = first.get("body", b"")
    if not first.get("more_body", False):
        return _bounded(body, limit_bytes)
    return await _read_on(receive, body, limit_bytes, limit_s)


async def _read_on(receive: Receive, body: bytes, limit_bytes: int, limit_s: float) -> bytes:
    clock: Callable[[], float] = asyncio.get_running_loop().time
    end = clock() + limit_s
    chunks, size, more = [body], len(body), True
    while more:
        message = await _within(receive, end - clock(), limit_s)
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit_bytes:
            raise BodyTooLargeError(limit_bytes)
        more = message.get("more_body", False)
    return b"".join(chunks)


async def _within(receive: Receive, left_s: float, limit_s: float) -> dict:  # type: ignore[type-arg] # ASGI message
    try:
        async with asyncio.timeout(left_s):
            message = await receive()
    except TimeoutError as exc:
        raise BodyTimeoutError(limit_s) from exc
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return dict(message)


def _bounded(body: bytes, limit_bytes: int) -> bytes:
    if len(body) > limit_bytes:
        raise BodyTooLargeError(limit_bytes)
    return body


def deadline_ms(config_ms: float, *caller_ms: float | None) -> float:
    """The shortest of the service's deadline and the caller's, in body and header."""
    return min(config_ms, *(ms or config_ms for ms in caller_ms))


def header_deadline_ms(headers: Headers) -> float | None:
    """The caller's deadline in the header; None where there is no such header.

    Raises:
        InvalidRequestError: the header is not a positive number.
    """
    header = headers.get(DEADLINE_HEADER)
    if header is None:
        return None
    try:
        value = float(header)
    except ValueError:
        value = -1.0
    if not 0.0 < value < float("inf"):
        raise InvalidRequestError("X-Request-Deadline-Ms", "Send a positive number.")
    return value
