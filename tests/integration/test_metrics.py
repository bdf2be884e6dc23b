"""The numbers of a running service, read by a real Prometheus."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.integration.conftest import Stack, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        shutil.which("prometheus") is None,
        reason="prometheus is missing: apt-get install prometheus, as .ci/run does",
    ),
]
CONFIG = """\
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: tsfm
    static_configs: [{{targets: ["{target}"]}}]
"""


@pytest.fixture
def prometheus(stack: Stack, tmp_path: Path) -> Iterator[str]:
    """A Prometheus that scrapes the service, by its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = tmp_path / "prometheus.yaml"
    config.write_text(CONFIG.format(target=stack.service.url.removeprefix("http://")), "utf-8")
    words = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(words, stderr=log) as process:
        yield f"http://{address}"
        process.terminate()


async def test_prometheus_reads_what_the_replicas_counted(stack: Stack, prometheus: str) -> None:
    for seed in range(5):
        await stack.meta(2000 + seed)
    await stack.meta(2010, liquidity_bucket="low")

    async with httpx.AsyncClient(base_url=prometheus, trust_env=False) as http:

        async def value(query: str) -> float | None:
            try:
                response = await http.get("/api/v1/query", params={"query": query})
            except httpx.TransportError:  # it is not up yet
                return None
            found: list[Any] = response.json()["data"]["result"]
            return float(found[0]["value"][1]) if found else None

        async def has_come() -> bool:
            low = await value('sum(tsfm_fallbacks_total{reason="low_liquidity"})')
            return (low or 0) >= 1

        await until(has_come, limit_s=45.0)
        from_model = await value('sum(tsfm_requests_total{source="tollama"})')
        calls = await value('sum(tsfm_runtime_calls_total{deployment="Runner",result="ok"})')
        in_time = await value('tsfm_latency_seconds_bucket{stage="total",le="+Inf"}')
        closed = await value('max(tsfm_breaker_state{state="closed"})')
        nodes = await value('tsfm_nodes{state="read"}')

    assert from_model is not None
    assert from_model >= 5
    assert calls is not None
    assert calls >= 1
    assert in_time is not None
    assert in_time >= 6
    assert (closed, nodes) == (1, 1)


async def test_status_knows_the_replicas_and_the_breaker(stack: Stack) -> None:
    await stack.meta(2100)

    status = (await stack.http.get("/tsfm/status")).json()

    assert status["replicas"]["Ingress"] >= 1
    assert status["replicas"]["Runner"] >= 1
    assert status["breakers"] == [
        {"model": "fracast-0", "state": "closed", "next_probe_in_s": None}
    ]


async def test_fallbacks_are_told_as_json_lines_where_ray_keeps_stderr(stack: Stack) -> None:
    await stack.meta(2200, liquidity_bucket="low")

    def told() -> list[dict[str, Any]]:
        files = stack.service.folder.rglob("worker-*.err")
        lines = (line for file in files for line in file.read_text("utf-8").splitlines())
        return [orjson.loads(line) for line in lines if '"fell back"' in line]

    async def has_come() -> bool:
        return bool(told())

    await until(has_come)
    assert all(line["deployment"] == "Ingress" and line["reason"] for line in told())
