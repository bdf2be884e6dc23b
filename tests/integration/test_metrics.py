"""The numbers of a running service, read by a real Prometheus."""

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import pytest
import yaml

from loadtest.service import Service
from tests.integration.conftest import Stack, client, until
from tests.support.builders import ROOT

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        shutil.which("prometheus") is None,
        reason="prometheus is missing: apt-get install prometheus, as .ci/run does",
    ),
]
PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARD = ROOT / "deploy/grafana/tsfm-runner.json"
# Nothing to count in a run of these tests: coverage is learned only where that is switched on, and
# a breaker need not have moved while this Prometheus looked.
SILENT = {
    "tsfm_coverage",
    "tsfm_calibrated_coverage",
    "tsfm_coverage_target",
    "tsfm_band_width",
    "tsfm_breach_rate",
    "tsfm_skill",
    "tsfm_skill_high",
    "tsfm_skill_forecasts",
    "tsfm_routed",
    "tsfm_miscovered",
    "tsfm_learning_total",
    "tsfm_learning_exchanges_total",
    "tsfm_learning_dropped_notes_total",
    "tsfm_breaker_transitions_total",
}


@dataclass(frozen=True, slots=True)
class Scraped:
    """A Prometheus and the service it reads."""

    http: httpx.AsyncClient

    async def ask(self, path: str, **words: str) -> Any:
        """The data of an answer; None while it is not up yet."""
        try:
            answer = (await self.http.get(f"/api/v1/{path}", params=words)).json()
        except httpx.TransportError:
            return None
        assert answer["status"] == "success", answer
        return answer["data"]

    async def value(self, query: str) -> float | None:
        found = await self.ask("query", query=query)
        return float(found["result"][0]["value"][1]) if found and found["result"] else None


def adapted(target: str) -> dict[str, Any]:
    """The shipped configuration for another port, with more frequent scrapes.

    A scrape may take as long as its interval. After one that failed there are no values until the
    next. A busy machine needs more than a second for a scrape.
    """
    config: dict[str, Any] = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text("utf-8"))
    config["global"] = {"scrape_interval": "5s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(PROMETHEUS / file) for file in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    return config


@pytest.fixture(scope="module")
def prometheus(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that scrapes the service, by its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    folder = tmp_path_factory.mktemp("prometheus")
    config = folder / "prometheus.yaml"
    config.write_text(yaml.safe_dump(adapted(service.url.removeprefix("http://"))), "utf-8")
    words = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(words, stderr=log) as process:
        yield f"http://{address}"
        process.terminate()


@pytest.fixture
async def scraped(stack: Stack, prometheus: str) -> AsyncIterator[Scraped]:
    """A Prometheus that has seen traffic: by the model, by the baseline, and one refusal."""
    for seed in range(5):
        await stack.meta(time.monotonic_ns() + seed)
    await stack.meta(2010, liquidity_bucket="low", y=[0.5] * 64)
    await stack.http.post("/tsfm/forecast", json={})
    async with client(prometheus) as http:
        scraped = Scraped(http)

        async def has_come() -> bool:
            await stack.meta(time.monotonic_ns())  # a rate is of what grew while it was watched
            low = await scraped.value('sum(tsfm_fallbacks_total{reason="low_liquidity"})')
            ratio = await scraped.value("tsfm:failed:ratio_rate5m")
            return (low or 0) >= 1 and ratio is not None

        await until(has_come)
        yield scraped


async def test_prometheus_reads_what_the_replicas_counted(scraped: Scraped) -> None:
    from_model = await scraped.value('sum(tsfm_requests_total{source="tollama"})')
    calls = await scraped.value('sum(tsfm_runtime_calls_total{deployment="Runner",result="ok"})')
    in_time = await scraped.value('sum(tsfm_latency_seconds_bucket{stage="total",le="+Inf"})')
    closed = await scraped.value('max(tsfm_breaker_state{state="closed"})')
    nodes = await scraped.value('tsfm_nodes{state="read"}')

    assert from_model is not None
    assert from_model >= 5
    assert calls is not None
    assert calls >= 1
    assert in_time is not None
    assert in_time >= 6
    assert (closed, nodes) == (1, 1)


def panels() -> dict[str, str]:
    """Every expression of the dashboard, as Grafana would send it."""
    shown = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    found = [target["expr"] for panel in shown for target in panel.get("targets", [])]
    return {expression: expression.replace("$__rate_interval", "1m") for expression in found}


async def test_every_panel_of_the_dashboard_has_something_to_draw(scraped: Scraped) -> None:
    silent = set()
    for shown, expression in panels().items():
        if not (await scraped.ask("query", query=expression))["result"]:
            silent |= set(re.findall(r"tsfm[:\w]+", shown))

    assert silent <= SILENT


async def test_every_rule_is_loaded_and_can_be_judged(scraped: Scraped) -> None:
    async def judged() -> bool:
        return all(rule["health"] != "unknown" for rule in await rules())

    async def rules() -> list[dict[str, Any]]:
        groups = (await scraped.ask("rules"))["groups"]
        return [rule for group in groups for rule in group["rules"]]

    await until(judged)
    shipped = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text("utf-8"))["groups"]
    names = [r.get("alert", r.get("record")) for group in shipped for r in group["rules"]]

    assert sorted(rule["name"] for rule in await rules()) == sorted(names)
    assert [rule.get("lastError") for rule in await rules() if rule["health"] != "ok"] == []


async def test_status_knows_the_replicas_and_the_breaker(stack: Stack) -> None:
    await stack.meta(2100)

    status = (await stack.http.get("/tsfm/status")).json()

    assert status["replicas"]["Ingress"] >= 1
    assert status["replicas"]["Runner"] >= 1
    assert status["queue"]["waiting"] == 0
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
