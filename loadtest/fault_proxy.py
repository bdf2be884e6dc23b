"""A TCP proxy that breaks connections the way networks do; loopback only.

    python -m loadtest.fault_proxy --upstream 127.0.0.1:11435 --port 0

prints ``{"url": ..., "control": ...}`` once it listens. ``POST /toxics`` on the control address
sets the fields of ``Toxics``, ``GET`` shows them, ``DELETE`` removes them all. In tests::

    async with FaultProxy("127.0.0.1", port) as proxy:
        await proxy.set(Toxics(latency_ms=200))
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import random
import subprocess
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from loadtest.stub.process import announced
from loadtest.stub.server import Server, reset

LOOPBACK = "127.0.0.1"
_PIECE = 65_536


@dataclass(frozen=True, slots=True)
class Toxics:
    """What happens to connections; the default is nothing.

    ``down`` refuses new connections and resets those there are. All others concern data on its
    way back to the caller, where a service shows its weakness.
    """

    down: bool = False
    latency_ms: float = 0.0  # before each piece of data
    jitter_ms: float = 0.0  # up to this much on top
    bandwidth_kb_s: float | None = None
    slice_bytes: int | None = None  # pieces of at most this size ...
    slice_delay_ms: float = 0.0  # ... with this much after each
    limit_bytes: int | None = None  # then the connection is closed
    timeout_ms: float | None = None  # data stops; the connection is closed after this, 0: never
    reset_peer_ms: float | None = None  # RST this long after the connection was made
    half_close: bool = False  # we say we are done sending before we sent anything


class FaultProxy:
    """One listening port in front of one upstream."""

    def __init__(self, host: str, port: int, listen_port: int = 0, seed: int = 0) -> None:
        self.port = listen_port
        self.toxics = Toxics()
        self.connections = 0  # accepted so far
        self._upstream = (host, port)
        self._chance = random.Random(seed)
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
        """Replaces what is in force; connections that are open feel it with their next data."""
        self.toxics = toxics
        if toxics.down:
            await self._close()
        elif self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._welcome, LOOPBACK, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = list(self._open)
        for task, writer in list(self._open.items()):
            reset(writer.transport)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._connection(reader, writer))
        self._open[task] = writer
        task.add_done_callback(self._open.pop)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # either side may leave at any time
            try:
                up_reader, up_writer = await asyncio.open_connection(*self._upstream)
            except OSError:
                reset(writer.transport)
                return
            try:
                await self._both_directions(reader, writer, up_reader, up_writer)
            finally:
                writer.close()
                up_writer.close()

    async def _both_directions(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        if self.toxics.half_close:
            writer.write_eof()
        there = asyncio.create_task(self._pump(reader, up_writer, back=False))
        back = asyncio.create_task(self._pump(up_reader, writer, back=True))
        end = asyncio.create_task(self._reset_later(writer))
        try:
            await asyncio.wait((back, end), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (there, back, end):
                task.cancel()
            await asyncio.gather(there, back, end, return_exceptions=True)

    async def _reset_later(self, writer: asyncio.StreamWriter) -> None:
        if self.toxics.reset_peer_ms is None:
            await asyncio.Event().wait()
        else:
            await asyncio.sleep(self.toxics.reset_peer_ms / 1000)
            reset(writer.transport)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: bool
    ) -> None:
        """Passes data on until it ends, with what is in force for its direction."""
        passed = 0
        while data := await reader.read(_PIECE):
            toxics = self.toxics if back else Toxics()
            if toxics.timeout_ms is not None:
                await asyncio.sleep(toxics.timeout_ms / 1000 if toxics.timeout_ms else 1e9)
                return
            if toxics.half_close and back:
                continue  # it said it was done; what comes now has nowhere to go
            if toxics.limit_bytes is not None:
                data = data[: toxics.limit_bytes - passed]
            await self._send(data, writer, toxics)
            passed += len(data)
            if toxics.limit_bytes is not None and passed >= toxics.limit_bytes:
                return
        if not back:
            writer.write_eof()

    async def _send(self, data: bytes, writer: asyncio.StreamWriter, toxics: Toxics) -> None:
        delay_ms = toxics.latency_ms + self._chance.uniform(0, toxics.jitter_ms)
        await asyncio.sleep(delay_ms / 1000)
        size = _piece_size(toxics)
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            if toxics.bandwidth_kb_s:
                await asyncio.sleep(len(piece) / 1000 / toxics.bandwidth_kb_s)
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(toxics.slice_delay_ms / 1000)


def _piece_size(toxics: Toxics) -> int:
    """Bytes sent at once: a slice, or what a narrow line carries in 50 ms."""
    narrow = max(1, int(toxics.bandwidth_kb_s * 50)) if toxics.bandwidth_kb_s else _PIECE
    return min(toxics.slice_bytes or _PIECE, narrow)


def control_app(proxy: FaultProxy) -> Starlette:
    """The control address: what is in force, and how to change it."""

    async def toxics(request: Request) -> JSONResponse:
        try:
            if request.method == "POST":
                await proxy.set(toxics_of(await request.json()))
            elif request.method == "DELETE":
                await proxy.set(Toxics())
        except ValueError as exc:
            return JSONResponse({"error": str(exc)}, 400)
        state = dataclasses.asdict(proxy.toxics)
        return JSONResponse({**state, "connections": proxy.connections})

    return Starlette(routes=[Route("/toxics", toxics, methods=["GET", "POST", "DELETE"])])


def toxics_of(fields: Any) -> Toxics:
    """Toxics out of JSON.

    Raises:
        ValueError: a field is not known, or its value is neither a number nor a switch.
    """
    known = {field.name for field in dataclasses.fields(Toxics)}
    if not isinstance(fields, dict) or not fields.keys() <= known:
        raise ValueError(f"the fields are {', '.join(sorted(known))}")
    if not all(value is None or isinstance(value, int | float) for value in fields.values()):
        raise ValueError("values are numbers, true, false or null")
    return Toxics(**fields)


async def _serve(host: str, port: int, listen_port: int, control_port: int) -> None:
    async with FaultProxy(host, port, listen_port) as proxy:

        def announce(control: str) -> None:
            print(json.dumps({"url": proxy.url, "control": control}), flush=True)

        server = Server(control_app(proxy), announce, host=LOOPBACK, port=control_port)
        await server.serve_and_leave()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.fault_proxy", description="Breaks TCP connections on demand."
    )
    parser.add_argument("--upstream", type=_address, required=True, metavar="HOST:PORT")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one and prints it")
    parser.add_argument("--control-port", type=int, default=0)
    args = parser.parse_args(argv)
    host, port = args.upstream
    asyncio.run(_serve(host, port, args.port, args.control_port))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if host not in (LOOPBACK, "localhost") or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a port on this machine")
    return host, int(port)


@dataclass(frozen=True, slots=True)
class ProxyProcess:
    """A proxy as a process of its own, so that what it carries does not slow its client down.

    Leaving the ``with`` block stops it.
    """

    url: str
    control: str
    process: subprocess.Popen[bytes]

    def set(self, **toxics: Any) -> None:
        """Puts toxics in force; older connections are broken: not all would feel it."""
        self._call("POST", {"down": True})
        self._call("POST", toxics)

    def clear(self) -> None:
        """No toxics; connections that are open stay open."""
        self._call("DELETE", None)

    def connections(self) -> int:
        """How many it has accepted so far."""
        return int(self._call("GET", None)["connections"])

    def _call(self, method: str, toxics: Any) -> dict[str, Any]:
        with httpx.Client(trust_env=False) as client:
            answer = client.request(method, f"{self.control}/toxics", json=toxics)
        state: dict[str, Any] = answer.raise_for_status().json()
        return state

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate()


def start_proxy(upstream_url: str) -> ProxyProcess:
    """Starts ``python -m loadtest.fault_proxy`` and returns once it listens.

    Raises:
        RuntimeError: it ended before it listened.
    """
    process, told = announced("loadtest.fault_proxy", "--upstream", urlsplit(upstream_url).netloc)
    return ProxyProcess(told["url"], told["control"], process)


if __name__ == "__main__":
    main()
