"""The fault proxy: each way a network can let a caller down, seen from the caller's side."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from urllib.parse import urlsplit

import httpx
import pytest

from loadtest.fault_proxy import FaultProxy, Toxics, toxics_of
from loadtest.http_client import Connection, endpoint
from loadtest.service import ROOT
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


async def fetch(proxy: FaultProxy, timeout_s: float = 10.0) -> bytes:
    connection = Connection(endpoint(proxy.url, "/"), timeout_s)
    try:
        body = (await connection.ask(b"question")).body
    finally:
        connection.close()
    return body


async def seconds(toxics: Toxics) -> float:
    async with proxied(toxics) as proxy:
        started = perf_counter()

        assert await fetch(proxy) == BODY
        return perf_counter() - started


async def test_without_toxics_nothing_is_changed():
    async with proxied(Toxics()) as proxy:
        assert await fetch(proxy) == BODY
        assert await fetch(proxy) == BODY
        assert proxy.connections == 2


async def test_latency_comes_before_the_data():
    assert await seconds(Toxics(latency_ms=200)) >= 0.2


async def test_jitter_is_on_top_and_bounded():
    assert await seconds(Toxics(latency_ms=50, jitter_ms=20)) >= 0.05


async def test_a_narrow_line_takes_its_time():
    assert await seconds(Toxics(bandwidth_kb_s=10)) >= 0.19


async def test_slices_arrive_one_after_the_other():
    assert await seconds(Toxics(slice_bytes=500, slice_delay_ms=50)) >= 0.2


async def test_down_refuses_and_breaks_and_up_again_answers_on_the_same_port():
    async with proxied(Toxics()) as proxy:
        connection = Connection(endpoint(proxy.url, "/"), 10)
        await connection.ask(b"question")
        await proxy.set(Toxics(down=True))

        with pytest.raises(ConnectionError):
            await connection.ask(b"question")
        with pytest.raises(ConnectionRefusedError):
            await fetch(proxy)
        await proxy.set(Toxics())
        assert await fetch(proxy) == BODY


async def test_a_limit_cuts_the_answer_off():
    async with proxied(Toxics(limit_bytes=1000)) as proxy:
        with pytest.raises(ConnectionResetError):
            await fetch(proxy)


async def test_data_that_stops_is_a_timeout_for_the_caller():
    async with proxied(Toxics(timeout_ms=0)) as proxy:
        with pytest.raises(TimeoutError):
            await fetch(proxy, timeout_s=0.1)


async def test_data_that_stops_can_end_the_connection():
    async with proxied(Toxics(timeout_ms=50)) as proxy:
        with pytest.raises(ConnectionResetError):
            await fetch(proxy)


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


@pytest.mark.parametrize("fields", [{"latency": 1}, {"latency_ms": "slow"}, []])
def test_toxics_it_does_not_know_are_refused(fields: object):
    with pytest.raises(ValueError, match=r"fields are|values are"):
        toxics_of(fields)


async def command(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "loadtest.fault_proxy",
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_the_command_is_steered_over_http_and_leaves_at_a_signal():
    async def reply(_body: bytes) -> bytes:
        return answer(BODY)

    async with serving(reply) as url, httpx.AsyncClient(trust_env=False) as client:
        process = await command("--upstream", urlsplit(url).netloc)
        assert process.stdout is not None
        at = json.loads(await process.stdout.readline())
        toxics = f"{at['control']}/toxics"
        before = await client.post(at["url"])
        wrong = await client.post(toxics, json={"nonsense": 1})
        told = await client.post(toxics, json={"down": True})
        with pytest.raises(httpx.TransportError):
            await client.post(at["url"])
        cleared = await client.delete(toxics)
        after = await client.post(at["url"])
        process.terminate()
        await process.communicate()

    assert (before.content, after.content) == (BODY, BODY)
    assert wrong.status_code == 400
    assert (told.json()["down"], cleared.json()["down"]) == (True, False)
    assert process.returncode == 0


@pytest.mark.parametrize("arguments", [[], ["--upstream", "example.com:80"], ["--no"]])
async def test_the_command_keeps_to_this_machine(arguments: list[str]):
    process = await command(*arguments)
    _, err = await process.communicate()

    assert process.returncode == 2
    assert b"usage: python -m loadtest.fault_proxy" in err
