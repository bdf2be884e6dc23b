"""A service of a few lines that answers forecasts, for tests of the tools that measure it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson

Handler = Callable[[bytes], Awaitable[bytes]]


def forecast(body: bytes, **meta: Any) -> dict[str, Any]:
    request = orjson.loads(body)
    bands = {f"{q:g}": [q] * request["horizon_steps"] for q in request["quantiles"]}
    return {"yhat_q": bands, "meta": {"cache_hit": False, "fallback_used": False} | meta}


def answer(content: Any, status: int = 200) -> bytes:
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Answers each request with the bytes ``handler`` makes of its body; no bytes hang up."""
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while reply := await handler(await _body(reader)):
                writer.write(reply)
                if b"Content-Length" not in reply and b"chunked" not in reply:
                    break  # the end of the connection is the end of the body
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the caller has left
        finally:
            writer.close()

    def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.create_task(talk(reader, writer)))

    async with await asyncio.start_server(welcome, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for task in talks:
        task.cancel()
    await asyncio.gather(*talks, return_exceptions=True)
    await asyncio.sleep(0)  # closed transports say goodbye in the loop's next round


async def _body(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    return await reader.readexactly(length)
