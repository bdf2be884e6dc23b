"""What Serve and HAProxy do around the service, with our rules for both."""

import os
import signal
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from serve_app.launch.launcher import is_loopback, listeners_of
from tests.integration.conftest import Stack, assert_valid, body, client, until
from tests.support.bench import Bench

pytestmark = pytest.mark.integration
OBEYED = {
    "x-request-timeout-seconds": ("0.0001", "-1", "\u00ff"),
    "x-request-disconnect-disabled": ("?1", "\u00ff"),
    "x-session-id": ("one", "\u00ff"),
    "serve_multiplexed_model_id": ("none", "\u00ff"),
    "serve-multiplexed-model-id": ("none", "\u00ff"),
    "x-request-id": ("a" * 9000, "\u00ff"),
    "traceparent": ("\u00ff",),
}
HEADERS = [(name, value) for name, values in OBEYED.items() for value in values]


async def test_no_header_of_serve_takes_the_promise_away(stack: Stack) -> None:
    for number, (name, value) in enumerate(HEADERS):
        answer = await stack.http.post(
            "/tsfm/forecast",
            json=body(7000 + number),
            headers={name.encode(): value.encode("latin-1")},
        )

        assert answer.status_code == 200, (name, value[:9], answer.text)
        assert_valid(answer.json())
        assert len(answer.headers["x-request-id"]) < 200


async def test_list_of_routes_is_closed_and_a_slash_at_the_end_leads_nowhere(stack: Stack) -> None:
    for path in ("/-/routes", "/%2D/routes", "/tsfm/models/"):
        answer = await stack.http.get(path, headers={"host": "elsewhere.example"})

        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_pages_pass_the_proxy_as_they_were_written(stack: Stack) -> None:
    bench = Bench()
    for path in ("/", "/docs", "/console/series.js"):
        page, written = await stack.http.get(path), await bench.http.get(path)

        assert (page.status_code, page.content) == (200, written.content)
        assert page.headers.items() >= written.headers.items()
    document = await stack.http.get("/openapi.json")
    assert document.json()["openapi"] == "3.1.0"


async def test_only_rays_own_ports_listen_beyond_this_machine(stack: Stack) -> None:
    fixed = range(20_000, 30_000)  # where the service, HAProxy and replicas have all their ports

    listeners = [each for each in listeners_of(stack.service.process.pid) if each.port in fixed]

    assert urlsplit(stack.service.url).port in {each.port for each in listeners}
    assert [each for each in listeners if not is_loopback(each.address)] == []


async def test_valid_route_is_never_unknown_while_the_proxy_comes_back(stack: Stack) -> None:
    said: set[int] = set()

    async def answers() -> bool:
        try:
            async with client(stack.service.url) as http:
                status = (await http.get("/readyz")).status_code
        except httpx.TransportError:
            return False
        said.add(status)
        return status == 200

    haproxies = {
        pid for pid, line in stack.service.processes().items() if "/haproxy -db -f " in line
    }
    for pid in haproxies:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: _gone(haproxies))
    await until(answers)

    assert said <= {200, 503}


async def _gone(pids: set[int]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in pids)
