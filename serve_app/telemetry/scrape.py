"""The metrics of all replicas from all nodes, for ``GET /metrics``, in Prometheus' text format.

Ray serves them at a port of each node, where they are read at each request. Ray adds a prefix, a
suffix and labels that change with every start; here they are written as the table in `metrics`
defines them, with the labels ``deployment`` and ``replica`` added.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import httpx
from prometheus_client import Metric as Family
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from serve_app.telemetry.metrics import METRICS, NODES, Kind, Metric

PREFIX = "ray_"
OURS = f"{PREFIX}tsfm_"
KEPT_LABELS = ("deployment", "replica")
NODE_LIMIT_S = 2.0


def exposition(texts: Iterable[str], nodes: Mapping[str, int]) -> bytes:
    """Merges the scrapes of all nodes; ``nodes`` is the number of nodes by state of the scrape."""
    samples = [sample for text in texts for sample in parsed(text)]
    samples += [Sample(NODES.name, {"state": state}, count) for state, count in nodes.items()]
    return generate_latest(_Families(samples))


def parsed(text: str) -> Iterator[Sample]:
    """Our samples in one node's scrape; hundreds of other lines are not parsed."""
    ours = "\n".join(line for line in text.splitlines() if line.startswith(OURS))
    for family in text_string_to_metric_families(ours + "\n"):
        for sample in family.samples:
            if sample.name in _BY_RAY_NAME:
                metric, name = _BY_RAY_NAME[sample.name]
                yield Sample(name, _labels(metric, sample.labels), sample.value)


_BY_RAY_NAME = {  # Ray adds "_total" to every counter; the parts of our histograms are counters
    f"{PREFIX}{name}{'_total' if metric.kind is Kind.HISTOGRAM else ''}": (metric, name)
    for metric in METRICS
    for name in metric.series_names
}


def _labels(metric: Metric, found: Mapping[str, str]) -> dict[str, str]:
    kept = (*metric.tags, "le", *KEPT_LABELS)
    return {name: found[name] for name in kept if name in found}


class _Families(Collector):
    """The samples of each metric, in the form that the library writes."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            family = Family(metric.name.removesuffix("_total"), metric.help, metric.kind.value)
            family.samples = [s for s in self._samples if s.name in metric.series_names]
            if metric.kind is Kind.HISTOGRAM:
                family.samples += _empty_buckets(metric, family.samples)
            if family.samples:
                yield family


def _empty_buckets(metric: Metric, samples: Sequence[Sample]) -> list[Sample]:
    """A zero for each bucket without values: Ray has none for these."""
    name = f"{metric.name}_bucket"
    found = {frozenset(s.labels.items()) for s in samples if s.name == name}
    edges = [
        {**s.labels, "le": str(edge)}
        for s in samples
        if s.name.endswith("_count")
        for edge in metric.bounds
    ]
    return [Sample(name, each, 0.0) for each in edges if frozenset(each.items()) not in found]


def metric_urls(nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    """The metrics URLs of the nodes that are alive; ``nodes`` is Ray's list of nodes.

    >>> node = {"Alive": True, "NodeManagerAddress": "10.0.0.7", "MetricsExportPort": 8080}
    >>> metric_urls([node, node | {"Alive": False}])
    ['http://10.0.0.7:8080/metrics']
    """
    return [
        f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        for node in nodes
        if node["Alive"]
    ]


async def gather(urls: Sequence[str], transport: httpx.AsyncBaseTransport | None = None) -> bytes:
    """Merges the scrapes of all nodes; nodes that do not answer are counted as unreachable."""
    # nodes answer in plain HTTP: reading certificates would hold the event loop for 40 ms
    async with httpx.AsyncClient(
        timeout=NODE_LIMIT_S, trust_env=False, verify=False, transport=transport
    ) as http:
        texts = await asyncio.gather(*(_text(http, url) for url in urls))
    read = [text for text in texts if text is not None]
    counts = {"read": len(read), "unreachable": len(texts) - len(read)}
    return await asyncio.to_thread(exposition, read, counts)


async def _text(http: httpx.AsyncClient, url: str) -> str | None:
    try:
        response = await http.get(url)
    except httpx.HTTPError:
        return None
    return response.text if response.status_code == 200 else None
