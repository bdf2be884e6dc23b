"""Reading a request's body, with limits of size and time, and its deadline."""

import asyncio

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
    chunks, size, more = list[bytes](), 0, True
    try:
        async with asyncio.timeout(limit_s):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > limit_bytes:
                    raise BodyTooLargeError(limit_bytes)
                more = message.get("more_body", False)
    except TimeoutError as exc:
        raise BodyTimeoutError(limit_s) from exc
    return b"".join(chunks)


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
