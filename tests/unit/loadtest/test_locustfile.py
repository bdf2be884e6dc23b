"""Short runs of locust against a fake service."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson

from loadtest.service import ROOT
from tests.unit.loadtest.fake_service import Handler, answer, forecast, serving


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
    options = ["--headless", "--only-summary", "-t", "3s", "-u", "20", "-r", "20"]
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
        code, out = await locust(url)

    assert code == 0
    for name in ("unique", "cached", "fallback", "batch"):
        assert f"POST     {name}" in out


async def test_locust_fails_a_service_whose_bands_are_bad_although_its_status_is_200():
    async with serving(service({"yhat_q": {"0.5": [0.5]}})) as url:
        code, out = await locust(url, "CachedUser")

    assert code == 1
    assert "invalid body" in out


async def test_a_slow_service_is_asked_no_less_often():
    arrivals = []

    async def slow(body: bytes) -> bytes:
        arrivals.append(body)
        await asyncio.sleep(1.5)
        return answer(forecast(body))

    async with serving(slow) as url:
        await locust(url, "CachedUser", "-u", "10", "-t", "4s")

    assert len(arrivals) > 20  # users who wait for their answer would have asked 15 times
