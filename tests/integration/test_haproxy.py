"""HAProxy with Serve's configuration and our rules, before a stand-in for an ingress replica."""

import asyncio
import json
import socket
import stat
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from loadtest.service import free_block
from serve_app.edge.haproxy import HEADER_LIMIT_S
from tests.integration.conftest import client, until
from tests.support.haproxy import running, write_serve_configuration

pytestmark = pytest.mark.integration
HALF = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Half: "
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NEIGHBOUR = "127.0.0.2"  # also this machine, and another source


@dataclass(frozen=True, slots=True)
class Proxy:
    """A HAProxy that runs."""

    pid: int
    port: int
    folder: Path
    http: httpx.AsyncClient

    async def connect(self, source: str = "127.0.0.1") -> socket.socket:
        connection = socket.socket()
        connection.setblocking(False)
        connection.bind((source, 0))
        try:
            address = ("127.0.0.1", self.port)
            await asyncio.get_running_loop().sock_connect(connection, address)
        except OSError:
            connection.close()
            raise
        return connection


async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every request: of /wait after 3 s, of /cut not at all."""
    ended = (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError)
    with closing(writer), suppress(*ended):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b" /cut " in head:
                return
            await asyncio.sleep(3 if b" /wait " in head else 0)
            writer.write(ANSWER)
            await writer.drain()


@asynccontextmanager
async def proxy(folder: Path, with_replica: bool = True, **options: Any) -> AsyncIterator[Proxy]:
    block = free_block(4)
    server = await asyncio.start_server(replica, "127.0.0.1", block + 3)
    ports = (block, block + 1, block + 2)
    path = write_serve_configuration(folder, ports, block + 3 if with_replica else None, **options)
    url = f"http://127.0.0.1:{block}"
    async with server, client(url) as http:
        with running(path) as process:

            async def listens() -> bool:
                try:
                    answer = await http.get("/healthz")
                except httpx.TransportError:
                    return False
                return answer.status_code == 200 or not with_replica

            await until(listens)
            yield Proxy(process.pid, block, folder, http)


async def ask(connection: socket.socket) -> bytes:
    """The answer to a request; the connection stays."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, HALF + b"\r\n\r\n")
    return await loop.sock_recv(connection, 65536)


async def ending(connection: socket.socket) -> bytes:
    """Everything that comes before the other side closes."""
    loop, parts = asyncio.get_running_loop(), []
    with connection, suppress(ConnectionError):
        while part := await asyncio.wait_for(loop.sock_recv(connection, 65536), 20):
            parts.append(part)
    return b"".join(parts)


async def half_header(haproxy: Proxy) -> bytes:
    """What a connection from elsewhere gets that never ends its headers."""
    with suppress(ConnectionError):
        connection = await haproxy.connect(NEIGHBOUR)
        with suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(connection, HALF)
        return await ending(connection)
    return b""


async def test_half_headers_end_within_ten_seconds_while_others_are_served(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with proxy(tmp_path, maxconn=400) as haproxy:
        began = loop.time()
        ends = asyncio.gather(*(half_header(haproxy) for _ in range(600)))
        newcomers = []
        while not ends.done():
            async with client(str(haproxy.http.base_url)) as newcomer:
                newcomers.append(await newcomer.get("/healthz"))
            await asyncio.wait([ends], timeout=0.1)
        took_s = loop.time() - began

    statuses = Counter(end[9:12] for end in await ends)
    assert set(statuses) == {b"408", b""}
    assert statuses[b"408"] >= 200  # half of 400 at a time
    assert HEADER_LIMIT_S <= took_s < 10
    served = [answer for answer in newcomers if answer.status_code == 200]
    late = [answer for answer in newcomers if answer.status_code == 408]  # on a busy machine
    assert len(served) >= 0.8 * len(newcomers)
    assert len(served) + len(late) == len(newcomers)
    # where the system's queue is full a newcomer waits for 1 s, then 2
    assert max(answer.elapsed.total_seconds() for answer in served) < HEADER_LIMIT_S


async def letter_by_letter(haproxy: Proxy) -> tuple[bytes, float]:
    """The answer to headers that are sent slowly and never end, and after how many seconds."""
    loop = asyncio.get_running_loop()
    connection, began = await haproxy.connect(), loop.time()
    await loop.sock_sendall(connection, HALF)
    end = asyncio.create_task(ending(connection))
    while not end.done():
        with suppress(OSError):
            await loop.sock_sendall(connection, b"a")
        await asyncio.wait([end], timeout=0.2)
    return await end, loop.time() - began


async def test_limit_of_headers_ends_slow_headers_but_no_idle_connection_and_no_slow_answer(
    tmp_path: Path,
) -> None:
    loop = asyncio.get_running_loop()
    async with proxy(tmp_path, timeout_client_s=1) as haproxy:
        slow_headers = asyncio.create_task(letter_by_letter(haproxy))
        answer = await haproxy.http.get("/wait")
        connection = await haproxy.connect()
        with connection:
            assert (await ask(connection)).startswith(b"HTTP/1.1 200 ")
            with pytest.raises(TimeoutError):  # nothing comes, not even an end
                await asyncio.wait_for(loop.sock_recv(connection, 1), HEADER_LIMIT_S + 1)
            assert (await ask(connection)).startswith(b"HTTP/1.1 200 ")
        refusal, took_s = await slow_headers

    assert refusal.startswith(b"HTTP/1.1 408 ")
    assert took_s < 10
    assert answer.status_code == 200
    assert "timeout http-keep-alive 90s" in (tmp_path / "haproxy.cfg").read_text()


async def test_one_source_gets_half_of_all_connections(tmp_path: Path) -> None:
    async with proxy(tmp_path, maxconn=40) as haproxy:
        held: list[socket.socket] = []
        for _ in range(30):
            with suppress(ConnectionError):  # reset at once, or when something is sent
                held.append(await haproxy.connect(NEIGHBOUR))
        answers = await asyncio.gather(*map(ask, held), return_exceptions=True)
        others = await haproxy.http.get("/healthz")
        for connection in held:
            connection.close()

    served = [answer for answer in answers if isinstance(answer, bytes) and b" 200 " in answer]
    assert len(served) == 20
    assert others.status_code == 200


async def test_what_haproxy_answers_itself_is_json(tmp_path: Path) -> None:
    async with proxy(tmp_path, retry_on="conn-failure empty-response") as haproxy:
        routes = await haproxy.http.get("/-/routes")
        cut = await haproxy.http.get("/cut")
        health = await haproxy.http.get("/-/healthz")

    assert (routes.status_code, routes.json()["error"]["code"]) == (404, "not_found")
    assert (cut.status_code, cut.json()["error"]["code"]) == (502, "unavailable")
    assert cut.headers["retry-after"] == "1"
    assert (health.status_code, health.text) == (200, "success")


async def test_body_that_stops_is_answered_in_json(tmp_path: Path) -> None:
    head = b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    async with proxy(tmp_path, timeout_client_s=1) as haproxy:
        connection = await haproxy.connect()
        await asyncio.get_running_loop().sock_sendall(connection, head + b"{")
        head, _, content = (await ending(connection)).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(content)["error"]["code"] == "bad_request"


async def test_route_that_haproxy_does_not_know_yet_is_unavailable_and_not_unknown(
    tmp_path: Path,
) -> None:
    async with proxy(tmp_path, with_replica=False) as haproxy:
        answer = await haproxy.http.post("/tsfm/forecast", json={})

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "unavailable"
    assert answer.headers["retry-after"] == "1"


async def test_nothing_of_a_local_haproxy_is_open_to_others(tmp_path: Path) -> None:
    async with proxy(tmp_path) as haproxy:
        sockets = psutil.Process(haproxy.pid).net_connections("tcp")
        mode = stat.S_IMODE((tmp_path / "admin.sock").stat().st_mode)

    listening = {each.laddr for each in sockets if each.status == psutil.CONN_LISTEN}
    assert {address.port - haproxy.port for address in listening} == {0, 1, 2}
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert mode == 0o600
