"""The fault proxy: each way a network can let a caller down, seen from the caller's side."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from urllib.parse import urlsplit

import pytest

from loadtest.fault_proxy import FaultProxy, ProxyThread, Toxics
from loadtest.http_client import Pool, endpoint
from tests.unit.loadtest.fake_service import answer, serving

BODY = b"x" * 2000


@asynccontextmanager
async def proxied(toxics: Toxics) -> AsyncIterator[FaultProxy]:
    """A proxy with ``toxics`` in front of a server that answers each request with ``BODY``."""

    async def reply(_body: bytes) -> bytes:
        return answer(BODY)

    async with serving(reply) as url, FaultProxy("127.0.0.1", urlsplit(url).port or 0) as proxy:
        await proxy.set(toxics)
        yield proxy


async def fetch(proxy: FaultProxy | ProxyThread, timeout_s: float = 10.0) -> bytes:
    pool = Pool(endpoint(proxy.url, "/"), timeout_s)
    body = (await pool.ask(b"question")).body
    pool.close()
    return body


async def seconds(toxics: Toxics) -> float:
    async with proxied(toxics) as proxy:
        started = perf_counter()

        assert await fetch(proxy) == BODY
        return perf_counter() - started


@pytest.mark.parametrize(
    ("toxics", "least_s"),
    [
        (Toxics(latency_ms=200), 0.2),
        (Toxics(latency_ms=50, jitter_ms=20), 0.05),
        (Toxics(slice_bytes=500, slice_delay_ms=50), 0.2),
    ],
)
async def test_delays_last_as_long_as_set(toxics: Toxics, least_s: float):
    assert await seconds(toxics) >= least_s


async def test_down_refuses_and_breaks_and_up_again_answers_on_the_same_port():
    async with proxied(Toxics()) as proxy:
        pool = Pool(endpoint(proxy.url, "/"), 10)
        await pool.ask(b"question")
        await proxy.set(Toxics(down=True))

        with pytest.raises(ConnectionError):
            await pool.ask(b"question")
        with pytest.raises(ConnectionRefusedError):
            await fetch(proxy)
        await proxy.set(Toxics())
        assert await fetch(proxy) == BODY


@pytest.mark.parametrize(
    ("toxics", "error"),
    [
        (Toxics(limit_bytes=1000), ConnectionResetError),
        (Toxics(black_hole=True), TimeoutError),
    ],
)
async def test_data_that_stops_is_an_error_for_the_caller(toxics: Toxics, error: type[OSError]):
    async with proxied(toxics) as proxy:
        with pytest.raises(error):
            await fetch(proxy, timeout_s=0.2)


async def test_a_reset_peer_is_a_reset():
    async with proxied(Toxics(latency_ms=5000, reset_peer_ms=50)) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")

        with pytest.raises(ConnectionResetError, match="reset by peer"):
            await reader.read()
        writer.close()


async def test_a_half_closed_connection_sends_nothing_and_still_listens():
    async with proxied(Toxics(half_close=True)) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)

        assert await reader.read() == b""
        writer.write(b"still there?")
        await writer.drain()
        writer.close()


async def test_an_upstream_that_is_not_there_is_a_broken_connection():
    async with FaultProxy("127.0.0.1", 9) as proxy:
        with pytest.raises(ConnectionResetError):
            await fetch(proxy)


async def test_a_proxy_in_its_own_thread_follows_orders_and_counts_connections():
    async def reply(_body: bytes) -> bytes:
        return answer(BODY)

    async with serving(reply) as url:
        with ProxyThread(url) as proxy:
            before = await fetch(proxy)
            await asyncio.to_thread(proxy.set, down=True)
            with pytest.raises(ConnectionRefusedError):
                await fetch(proxy)
            await asyncio.to_thread(proxy.clear)

            assert before == await fetch(proxy) == BODY
            assert proxy.connections() == 2
