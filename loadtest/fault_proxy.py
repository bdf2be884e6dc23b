"""A TCP proxy that breaks connections the way networks do; loopback only.

    async with FaultProxy("127.0.0.1", port) as proxy:
        await proxy.set(Toxics(latency_ms=200))

``ProxyThread`` runs it in a thread.
"""

import asyncio
import contextlib
import random
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from loadtest.stub.faults import reset

LOOPBACK = "127.0.0.1"
_PIECE = 65_536


@dataclass(frozen=True, slots=True)
class Toxics:
    """The faults of connections; the default is none.

    ``down`` refuses new connections and resets open ones. All others act on data to the caller.
    """

    down: bool = False
    latency_ms: float = 0.0  # before each piece of data
    jitter_ms: float = 0.0  # up to this much on top
    slice_bytes: int = _PIECE  # pieces of at most this size ...
    slice_delay_ms: float = 0.0  # ... with this much after each
    limit_bytes: int | None = None  # then the connection is closed
    black_hole: bool = False  # data stops; the connection stays open
    reset_peer_ms: float | None = None  # RST this long after the connection was made
    half_close: bool = False  # the end of the data is sent before any data


class FaultProxy:
    """One listening port in front of one upstream."""

    def __init__(self, host: str, port: int) -> None:
        self.port = 0  # set once it listens
        self.toxics = Toxics()
        self.connections = 0  # accepted so far
        self._upstream = (host, port)
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def set(self, toxics: Toxics) -> None:
        """Replaces the toxics; open connections follow with their next data."""
        self.toxics = toxics
        if toxics.down:
            await self._close()
        elif self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._on_connection, LOOPBACK, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        connections = dict(self._open)
        for task, writer in connections.items():
            reset(writer.transport)
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._connection(reader, writer))
        self._open[task] = writer
        task.add_done_callback(self._open.pop)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            reset(writer.transport)
            return
        with contextlib.suppress(OSError):  # either side may close at any time
            if self.toxics.half_close:
                writer.write_eof()
        forth = asyncio.create_task(self._forth(reader, up_writer))
        back = asyncio.create_task(self._back(up_reader, writer))
        end = asyncio.create_task(self._reset_later(writer))
        try:
            await asyncio.wait((back, end), return_when=asyncio.FIRST_COMPLETED)
        finally:
            writer.close()
            up_writer.close()
            for task in (forth, back, end):
                task.cancel()
            await asyncio.gather(forth, back, end, return_exceptions=True)

    async def _reset_later(self, writer: asyncio.StreamWriter) -> None:
        if self.toxics.reset_peer_ms is None:
            await asyncio.Event().wait()
        else:
            await asyncio.sleep(self.toxics.reset_peer_ms / 1000)
            reset(writer.transport)

    async def _forth(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_PIECE):
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Passes data to the caller until it ends, with the toxics."""
        passed = 0
        while data := await reader.read(_PIECE):
            toxics = self.toxics
            if toxics.black_hole:
                await asyncio.Event().wait()
            if toxics.half_close:
                continue  # its end was sent already
            if toxics.limit_bytes is not None:
                data = data[: toxics.limit_bytes - passed]
            await self._send(data, writer, toxics)
            passed += len(data)
            if toxics.limit_bytes is not None and passed >= toxics.limit_bytes:
                return

    async def _send(self, data: bytes, writer: asyncio.StreamWriter, toxics: Toxics) -> None:
        await asyncio.sleep((toxics.latency_ms + random.uniform(0, toxics.jitter_ms)) / 1000)
        for at in range(0, len(data), toxics.slice_bytes):
            writer.write(data[at : at + toxics.slice_bytes])
            await writer.drain()
            await asyncio.sleep(toxics.slice_delay_ms / 1000)


class ProxyThread:
    """A proxy in a thread of its own, for callers without an event loop; ``with`` stops it."""

    def __init__(self, upstream_url: str) -> None:
        upstream = urlsplit(upstream_url)
        self._proxy = FaultProxy(str(upstream.hostname), upstream.port or 80)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    @property
    def url(self) -> str:
        return self._proxy.url

    def set(self, **toxics: Any) -> None:
        """Applies toxics and resets open connections, because some toxics act on new ones only."""
        self._run(self._proxy.set(Toxics(down=True)))
        self._run(self._proxy.set(Toxics(**toxics)))

    def clear(self) -> None:
        """No toxics; connections that are open stay open."""
        self._run(self._proxy.set(Toxics()))

    def connections(self) -> int:
        """How many it has accepted so far."""
        return self._proxy.connections

    def _run(self, order: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(order, self._loop).result()

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._proxy.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._proxy.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
