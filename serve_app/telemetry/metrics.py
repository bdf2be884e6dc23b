"""Every metric of the service: name, kind, unit, tags. There are no other metrics.

Names follow Prometheus: seconds, ``_total`` for counters. Tags have few values each, and no value
comes from a caller: model names are those of the registry. Ray's own ports show each name with the
prefix ``ray_``, and ``_total`` after every counter; ``GET /metrics`` shows the names as defined
here.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The types of Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; ``bounds`` are the upper edges of a histogram's buckets, ascending."""

    name: str
    kind: Kind
    help: str
    tags: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def series_names(self) -> tuple[str, ...]:
        """The names of its time series in queries."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)

    def ray_name(self, part: str = "") -> str:
        """The name in Ray, which adds the prefix ``ray_``, and ``_total`` to counters."""
        if self.kind is Kind.COUNTER:
            return self.name.removesuffix("_total")
        return f"{self.name}_{part}" if part else self.name


def _counter(name: str, text: str, tags: tuple[str, ...] = ()) -> Metric:
    return Metric(name, Kind.COUNTER, text, tags)


def _gauge(name: str, text: str, tags: tuple[str, ...] = ()) -> Metric:
    return Metric(name, Kind.GAUGE, text, tags)


def _histogram(name: str, text: str, bounds: tuple[float, ...], tags: tuple[str, ...]) -> Metric:
    return Metric(name, Kind.HISTOGRAM, text, tags, bounds)


# 0.05 and 0.3 are promised to users (section slo): as bucket edges they make these shares exact.
_TIMES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 5.0)
_ITEMS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)

REQUESTS = _counter(
    "tsfm_requests_total",
    "Forecasts by outcome (answered, refused: the caller's error, overloaded, failed: our fault, "
    "unobserved: a caller's test) and source (tollama, baseline, none); items of batches count one "
    "by one.",
    ("route", "outcome", "source"),
)
LATENCY = _histogram(
    "tsfm_latency_seconds",
    "Time of an answered forecast by stage: admission, queue, runtime, post, total.",
    _TIMES,
    ("route", "stage"),
)
FALLBACKS = _counter(
    "tsfm_fallbacks_total",
    "Answers that were not fresh ones of the model, by meta.fallback_reason.",
    ("reason",),
)
CORRECTIONS = _counter(
    "tsfm_corrections_total",
    "Bands that had to be corrected, by kind (values_clipped, quantiles_rearranged, "
    "interval_widened, interval_narrowed) and source; kept answers do not count again.",
    ("kind", "source"),
)
CACHE = _counter(
    "tsfm_cache_total", "Answered forecasts by what the caches gave: hit, stale, miss.", ("result",)
)
IN_FLIGHT = _gauge(
    "tsfm_in_flight",
    "Requests that an ingress replica is answering; a batch request counts as one.",
)
KEPT = _gauge(
    "tsfm_kept_answers",
    "Entries of a replica's caches (answers and bytes of an ingress, runner), "
    "cache.max_entries at most each.",
    ("cache",),
)
TASKS = _gauge("tsfm_tasks", "Tasks in the event loop of an ingress or Runner replica.")
BATCH_SIZE = _histogram("tsfm_batch_size", "Series in a runtime call.", _ITEMS, ("model",))
RUNTIME = _histogram(
    "tsfm_runtime_seconds",
    "Time of a runtime call, up to the moment it is given up.",
    _TIMES,
    ("model",),
)
RUNTIME_INFERENCE = _histogram(
    "tsfm_runtime_inference_seconds",
    "The model's part of it, as the runtime says.",
    _TIMES,
    ("model",),
)
RUNTIME_MEMORY = _gauge(
    "tsfm_runtime_memory_bytes",
    "Most memory that the model's process has used, as the runtime says.",
    ("model",),
)
RUNTIME_CALLS = _counter(
    "tsfm_runtime_calls_total",
    "Runtime calls by result: ok, or the fallback reason of its first item.",
    ("model", "result"),
)
QUEUED = _gauge("tsfm_queued_items", "Items waiting for a runtime slot.", ("model",))
QUEUE_AGE = _gauge("tsfm_queue_age_seconds", "How long the first of them has waited.", ("model",))
BREAKER = _gauge(
    "tsfm_breaker_state",
    "1 for the state a model's breaker is in, else 0; the same in every Runner: take the maximum.",
    ("model", "state"),
)
TRANSITIONS = _counter(
    "tsfm_breaker_transitions_total",
    "Changes of a breaker's state seen once a second by each Runner: take the maximum.",
    ("model", "state"),
)
COVERAGE = _gauge(
    "tsfm_coverage", "Share of recent outcomes inside their band.", ("source", "segment")
)
CALIBRATED = _gauge(
    "tsfm_calibrated_coverage",
    "Share of actual values inside the calibrated interval, offered or not.",
    ("source", "segment"),
)
COVERAGE_TARGET = _gauge(
    "tsfm_coverage_target", "The share that should be inside.", ("source", "segment")
)
COVERAGE_SAMPLES = _gauge(
    "tsfm_coverage_samples", "Number of actual values behind the coverage.", ("source", "segment")
)
WIDTH = _gauge(
    "tsfm_band_width", "Mean width of the bands behind the coverage.", ("source", "segment")
)
BREACHES = _gauge("tsfm_breach_rate", "Share of recent outcomes outside.", ("source", "segment"))
SKILL = _gauge(
    "tsfm_skill",
    "1 - pinball loss of a model / that of the baseline, on the same forecasts.",
    ("source", "segment"),
)
SKILL_HIGH = _gauge(
    "tsfm_skill_high",
    "Upper end of the interval of the skill: under 0 the model is worse.",
    ("source", "segment"),
)
SKILL_FORECASTS = _gauge(
    "tsfm_skill_forecasts", "Number of forecasts behind the skill.", ("source", "segment")
)
ROUTED = _gauge(
    "tsfm_routed",
    "1 where the baseline answers in place of the model, if routing.mode is enforce.",
    ("source", "segment"),
)
MISCOVERED = _gauge(
    "tsfm_miscovered",
    "1 while there is evidence that the calibrated coverage of a source has left its target.",
    ("source",),
)
LEARNING = _counter(
    "tsfm_learning_total",
    "What became of forecasts and outcomes that are learned from, by kind (docs/calibration.md); "
    "every ingress replica reports the same values: take the maximum.",
    ("kind",),
)
LEARNING_EXCHANGES = _counter(
    "tsfm_learning_exchanges_total",
    "Exchanges of an ingress replica with the learning actor by result: ok, lost (no answer), "
    "failed.",
    ("result",),
)
LEARNING_DROPPED = _counter(
    "tsfm_learning_dropped_notes_total",
    "Answers of an ingress replica that are never learned from: the queue was full, or learning "
    "failed.",
)
NODES = _gauge(
    "tsfm_nodes",
    "Nodes of the cluster by whether this scrape could read their numbers (read, unreachable).",
    ("state",),
)

METRICS = tuple(metric for metric in list(vars().values()) if isinstance(metric, Metric))
