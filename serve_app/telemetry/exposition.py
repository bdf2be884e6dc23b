"""Ray's metrics under our names, in Prometheus' text format: pure functions over scraped text.

Ray adds a prefix, a suffix and labels that change with every start; our metrics are written as the
table in `metrics` defines them, with the labels ``deployment`` and ``replica`` added.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from serve_app.telemetry.metrics import METRICS, NODES, Kind, Metric
from serve_app.telemetry.ray_metrics import ray_name

PREFIX = "ray_"
OURS = f"{PREFIX}tsfm_"
KEPT_LABELS = ("deployment", "replica")
_PARTS = ("bucket", "count", "sum")


def exposition(texts: Iterable[str], nodes: Mapping[str, int]) -> bytes:
    """Merges the scrapes of all nodes; ``nodes`` is the number of nodes by state of the scrape."""
    samples = [sample for text in texts for sample in parsed(text)]
    node_samples = [Sample(NODES.name, {"state": state}, count) for state, count in nodes.items()]
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(_families([*samples, *node_samples])))
    return generate_latest(registry)


def parsed(text: str) -> Iterator[Sample]:
    """Our samples in one node's scrape; hundreds of other lines are not parsed."""
    ours = "\n".join(line for line in text.splitlines() if line.startswith(OURS))
    for family in text_string_to_metric_families(ours + "\n"):
        for sample in family.samples:
            if sample.name in _BY_RAY_NAME:
                metric, name = _BY_RAY_NAME[sample.name]
                yield Sample(name, _labels(metric, sample.labels), sample.value)


def _metrics_by_ray_name() -> Iterator[tuple[str, tuple[Metric, str]]]:
    for metric in METRICS:
        if metric.kind is Kind.HISTOGRAM:
            for part in _PARTS:
                yield f"{PREFIX}{ray_name(metric, part)}_total", (metric, f"{metric.name}_{part}")
        else:
            yield f"{PREFIX}{metric.name}", (metric, metric.name)


_BY_RAY_NAME = dict(_metrics_by_ray_name())


def _labels(metric: Metric, found: Mapping[str, str]) -> dict[str, str]:
    kept = (*metric.tags, "le", *KEPT_LABELS)
    return {name: found[name] for name in kept if name in found}


def _families(samples: Sequence[Sample]) -> Iterator[Family]:
    for metric in METRICS:
        family = Family(metric.name.removesuffix("_total"), metric.help, metric.kind.value)
        family.samples = [s for s in samples if s.name in metric.series_names]
        if metric.kind is Kind.HISTOGRAM:
            family.samples = list(_with_every_bucket(metric, family.samples))
        if family.samples:
            yield family


def _with_every_bucket(metric: Metric, samples: Sequence[Sample]) -> Iterator[Sample]:
    """The samples, and a zero for each bucket without values: Ray has none for these."""
    found = {(_key(s), s.labels["le"]) for s in samples if "le" in s.labels}
    yield from samples
    for sample in samples:
        if not sample.name.endswith("_count"):
            continue
        for edge in map(str, metric.bounds):
            if (_key(sample), edge) not in found:
                yield Sample(f"{metric.name}_bucket", {**sample.labels, "le": edge}, 0.0)


def _key(sample: Sample) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in sample.labels.items() if name != "le")


class _Families(Collector):
    """Families in the form that the library writes."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Family]:
        """All of them."""
        return self._families
