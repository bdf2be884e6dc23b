"""Limits of a locust run, and a short run of locust itself against a fake service."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from loadtest.limits import add_options, broken
from loadtest.service import ROOT
from tests.unit.loadtest.fake_service import Handler, answer, forecast, serving

PARSER = argparse.ArgumentParser()
add_options(PARSER)
LIMITS = PARSER.parse_args([])


class Entry(NamedTuple):
    """What locust measures of one kind of traffic."""

    num_requests: int
    num_failures: int
    p95_ms: float
    max_response_time: float

    def get_response_time_percentile(self, _fraction: float) -> float:
        return self.p95_ms


GOOD = Entry(100, 0, 200, 900)


@pytest.mark.parametrize(
    ("entries", "invalid", "words"),
    [
        ({"unique": GOOD, "cached": GOOD}, 0, []),
        ({}, 0, ["nothing was measured"]),
        ({"cached": Entry(9, 0, 301, 301)}, 0, ["cached: p95 301 ms is over 300 ms"]),
        ({"batch": Entry(1, 0, 59_000, 59_000)}, 0, []),
        ({"batch": Entry(1, 0, 61_000, 61_000)}, 0, ["a batch took 61.0 s of 60 s"]),
        (
            {"unique": Entry(100, 3, 10, 10), "cached": GOOD},
            0,
            ["error share 1.50% is over 1.00%"],
        ),
        ({"unique": GOOD}, 1, ["1 invalid bodies, 0 allowed"]),
    ],
)
def test_each_exceeded_limit_is_named(entries: dict[str, Entry], invalid: int, words: list[str]):
    assert broken(entries, invalid, LIMITS) == words


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
        code, out = await locust(url, "CachedUser", "--duration-s", "1", "--limit-p95-ms", "5000")

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
