"""Limits of a locust run, and a short run of locust itself against a fake service."""

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from loadtest.limits import Entry, add_options, broken
from loadtest.ports import free_block
from loadtest.service import ROOT
from tests.unit.loadtest.fake_service import Handler, answer, forecast, serving

PARSER = argparse.ArgumentParser()
add_options(PARSER)
LIMITS = PARSER.parse_args([])
GOOD = Entry(requests=100, failures=0, p95_ms=200, max_ms=900)


def words(invalid: int = 0, **entries: Entry) -> str:
    return "; ".join(broken(entries, invalid, LIMITS))


def test_a_run_within_its_limits_breaks_none():
    assert words(unique=GOOD, cached=GOOD) == ""


def test_a_run_without_a_request_is_no_success():
    assert words() == "nothing was measured"


def test_each_kind_of_traffic_has_to_be_fast_enough():
    assert words(unique=GOOD, cached=Entry(9, 0, 301, 301)) == "cached: p95 301 ms is over 300 ms"


def test_a_batch_may_take_a_cycle_and_no_more():
    assert words(batch=Entry(1, 0, 59_000, 59_000)) == ""
    assert words(batch=Entry(1, 0, 61_000, 61_000)) == "a batch took 61.0 s of 60 s"


def test_errors_are_counted_over_all_traffic():
    assert words(unique=Entry(100, 3, 10, 10), cached=GOOD) == "error share 1.50% is over 1.00%"


def test_one_invalid_body_is_too_many():
    assert words(invalid=1, unique=GOOD) == "1 invalid bodies, 0 allowed"


async def start_locust(url: str, *arguments: str) -> asyncio.subprocess.Process:
    command = [str(Path(sys.executable).with_name("locust")), "-f", "loadtest/locustfile.py"]
    return await asyncio.create_subprocess_exec(
        *command,
        "--host",
        url,
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def locust(url: str, *arguments: str) -> tuple[int | None, str]:
    """A headless run of a few seconds."""
    options = ["--headless", "--only-summary", "--duration-s", "3", "--rate", "20"]
    process = await start_locust(url, *options, *arguments)
    out, _ = await process.communicate()
    return process.returncode, out.decode()


def service(change: dict[str, Any]) -> Handler:
    def one(request: Any) -> dict[str, Any]:
        return {**forecast(orjson.dumps(request)), **change}

    async def handle(body: bytes) -> bytes:
        request = orjson.loads(body)
        if "requests" in request:
            return answer({"results": [{"ok": one(item)} for item in request["requests"]]})
        return answer(one(request))

    return handle


async def test_locust_passes_a_healthy_service_with_every_kind_of_traffic():
    async with serving(service({})) as url:
        code, out = await locust(url, "--limit-p95-ms", "5000")

    assert "LIMITS_PASS" in out
    assert code == 0
    for name in ("unique", "cached", "fallback", "batch"):
        assert f"POST     {name}" in out


async def test_locust_fails_a_service_whose_bands_are_bad_although_its_status_is_200():
    async with serving(service({"yhat_q": {"0.5": [0.5]}})) as url:
        code, out = await locust(url, "CachedUser", "--limit-p95-ms", "5000")

    assert code == 1
    assert "LIMITS_FAIL" in out
    assert "invalid bodies" in out


async def test_a_slow_service_is_asked_no_less_often():
    arrivals = []

    async def slow(body: bytes) -> bytes:
        arrivals.append(body)
        await asyncio.sleep(1.5)
        return answer(forecast(body))

    async with serving(slow) as url:
        _, out = await locust(url, "CachedUser", "--rate", "10", "--duration-s", "4")

    assert len(arrivals) > 20  # users who wait for their answer would have asked 15 times
    assert "is over 300 ms" in out


@pytest.mark.parametrize("arguments", [["--curve", "circle"], ["--limit-p95-ms", "fast"]])
async def test_a_curve_or_limit_it_does_not_know_is_refused(arguments: list[str]):
    code, out = await locust("http://127.0.0.1:9", *arguments)

    assert code == 2
    assert f"error: argument {arguments[0]}" in out


async def test_the_web_page_offers_the_curves_and_the_limits():
    port = free_block(1)
    web = ["--web-host", "127.0.0.1", "--web-port", str(port)]
    process = await start_locust("http://127.0.0.1:9", *web)
    try:
        page = await first_page(f"http://127.0.0.1:{port}/")
    finally:
        process.terminate()
        await process.communicate()

    assert '"choices": ["steady", "step", "spike", "ramp"]' in page
    assert '"limit_p95_ms"' in page


async def first_page(url: str) -> str:
    """The page at ``url`` as soon as somebody answers there with 200."""
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx.TransportError):
                response = await client.get(url)
                if response.status_code == 200:
                    return response.text
            await asyncio.sleep(0.1)  # it does not say when it listens
