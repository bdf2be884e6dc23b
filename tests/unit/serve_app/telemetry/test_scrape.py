import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve_app.telemetry.metrics import LATENCY
from serve_app.telemetry.scrape import exposition, gather

NOISE = 'WorkerId="ab",SessionName="s",Version="2.60.0",otel_scope_version="",application="tsfm"'
INGRESS = f'deployment="Ingress",replica="r1",{NOISE}'
TEXT = f"""\
# HELP ray_node_cpu x
# TYPE ray_node_cpu gauge
ray_node_cpu{{ip="10.0.0.7"}} 3.0
# HELP ray_tsfm_requests_total x
# TYPE ray_tsfm_requests_total counter
ray_tsfm_requests_total{{{INGRESS},route="forecast",outcome="answered",source="tollama"}} 7.0
# TYPE ray_tsfm_requests gauge
ray_tsfm_requests{{{INGRESS},route="forecast",outcome="answered",source="tollama"}} 7.0
ray_tsfm_latency_seconds_bucket_total{{{INGRESS},route="forecast",stage="total",le="0.3"}} 5.0
ray_tsfm_latency_seconds_bucket_total{{{INGRESS},route="forecast",stage="total",le="+Inf"}} 7.0
ray_tsfm_latency_seconds_count_total{{{INGRESS},route="forecast",stage="total"}} 7.0
ray_tsfm_latency_seconds_sum_total{{{INGRESS},route="forecast",stage="total"}} 2.5
ray_tsfm_in_flight{{{INGRESS}}} 2.0
"""


def samples(text: bytes) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_our_metrics_have_our_names_types_and_labels_and_every_bucket() -> None:
    text = exposition([TEXT], {"read": 1})
    found = samples(text)
    types = {family.name: family.type for family in text_string_to_metric_families(text.decode())}
    edges = {labels["le"]: value for labels, value in found["tsfm_latency_seconds_bucket"]}
    replica = {"deployment": "Ingress", "replica": "r1"}

    assert set(found) == {
        "tsfm_requests_total",
        *(f"tsfm_latency_seconds_{part}" for part in ("bucket", "count", "sum")),
        "tsfm_in_flight",
        "tsfm_nodes",
    }
    assert types == {
        "tsfm_requests": "counter",
        "tsfm_latency_seconds": "histogram",
        "tsfm_in_flight": "gauge",
        "tsfm_nodes": "gauge",
    }
    assert found["tsfm_requests_total"] == [
        ({"route": "forecast", "outcome": "answered", "source": "tollama", **replica}, 7.0)
    ]
    assert len(edges) == len(LATENCY.bounds) + 1
    assert (edges["0.3"], edges["0.05"], edges["+Inf"]) == (5.0, 0.0, 7.0)


async def test_scrape_gathers_all_nodes_and_counts_those_that_are_silent() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "10.0.0.3":
            raise httpx.ConnectTimeout("no route")
        if request.url.host == "10.0.0.4":
            return httpx.Response(500)
        return httpx.Response(200, text=TEXT.replace('"r1"', f'"{request.url.host}"'))

    urls = [f"http://10.0.0.{i}:8080/metrics" for i in range(1, 5)]
    found = samples(await gather(urls, httpx.MockTransport(answer)))

    assert {labels["replica"] for labels, _ in found["tsfm_in_flight"]} == {"10.0.0.1", "10.0.0.2"}
    assert found["tsfm_nodes"] == [({"state": "read"}, 2.0), ({"state": "unreachable"}, 2.0)]


@pytest.mark.parametrize("text", ["", "ray_tsfm_unheard_of 1.0\n", "<html>"])
def test_scrape_of_something_else_is_empty(text: str) -> None:
    assert set(samples(exposition([text], {"read": 1}))) == {"tsfm_nodes"}
