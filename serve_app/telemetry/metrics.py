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


# 0.05 and 0.3 are promised to users (section slo): as bucket edges they make these shares exact.
_SECONDS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.2,
    0.3,
    0.5,
    0.75,
    1.0,
    1.5,
    5.0,
)
_ITEMS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)

REQUESTS = Metric(
    "tsfm_requests_total",
    Kind.COUNTER,
    "Forecasts by outcome (answered, refused: the caller's error, overloaded, failed: our fault) "
    "and source (tollama, baseline, none); items of batches count one by one.",
    ("route", "outcome", "source"),
)
LATENCY = Metric(
    "tsfm_latency_seconds",
    Kind.HISTOGRAM,
    "Time of an answered forecast by stage: admission, queue, runtime, post, total.",
    ("route", "stage"),
    _SECONDS,
)
FALLBACKS = Metric(
    "tsfm_fallbacks_total",
    Kind.COUNTER,
    "Answers that were not fresh ones of the model, by meta.fallback_reason.",
    ("reason",),
)
CORRECTIONS = Metric(
    "tsfm_corrections_total",
    Kind.COUNTER,
    "Bands that had to be corrected, by kind (values_clipped, quantiles_rearranged, "
    "interval_widened, interval_narrowed) and source; kept answers do not count again.",
    ("kind", "source"),
)
CACHE = Metric(
    "tsfm_cache_total",
    Kind.COUNTER,
    "Answered forecasts by what the caches gave: hit, stale, miss.",
    ("result",),
)
IN_FLIGHT = Metric(
    "tsfm_in_flight", Kind.GAUGE, "Requests under way in an ingress replica; a batch is one."
)
KEPT = Metric(
    "tsfm_kept_answers",
    Kind.GAUGE,
    "Entries of a replica's caches (answers and bytes of an ingress, runner), "
    "cache.max_entries at most each.",
    ("cache",),
)
TASKS = Metric("tsfm_tasks", Kind.GAUGE, "Tasks in the event loop of an ingress or Runner replica.")
BATCH_SIZE = Metric(
    "tsfm_batch_size", Kind.HISTOGRAM, "Series in a runtime call.", ("model",), _ITEMS
)
RUNTIME = Metric(
    "tsfm_runtime_seconds",
    Kind.HISTOGRAM,
    "Time of a runtime call, up to the moment it is given up.",
    ("model",),
    _SECONDS,
)
RUNTIME_CALLS = Metric(
    "tsfm_runtime_calls_total",
    Kind.COUNTER,
    "Runtime calls by result: ok, or the fallback reason of its first item.",
    ("model", "result"),
)
QUEUED = Metric("tsfm_queued_items", Kind.GAUGE, "Items waiting for a runtime slot.", ("model",))
QUEUE_AGE = Metric(
    "tsfm_queue_age_seconds", Kind.GAUGE, "How long the first of them has waited.", ("model",)
)
BREAKER = Metric(
    "tsfm_breaker_state",
    Kind.GAUGE,
    "1 for the state a model's breaker is in, else 0; the same in every Runner: take the maximum.",
    ("model", "state"),
)
TRANSITIONS = Metric(
    "tsfm_breaker_transitions_total",
    Kind.COUNTER,
    "Changes of a breaker's state seen once a second by each Runner: take the maximum.",
    ("model", "state"),
)
COVERAGE = Metric(
    "tsfm_coverage",
    Kind.GAUGE,
    "Share of recent outcomes inside their band.",
    ("source", "segment"),
)
CALIBRATED = Metric(
    "tsfm_calibrated_coverage",
    Kind.GAUGE,
    "The same for the calibrated interval, or what it would have been.",
    ("source", "segment"),
)
COVERAGE_TARGET = Metric(
    "tsfm_coverage_target", Kind.GAUGE, "The share that should be inside.", ("source", "segment")
)
COVERAGE_SAMPLES = Metric(
    "tsfm_coverage_samples", Kind.GAUGE, "Outcomes behind it.", ("source", "segment")
)
WIDTH = Metric("tsfm_band_width", Kind.GAUGE, "Mean width of those bands.", ("source", "segment"))
BREACHES = Metric(
    "tsfm_breach_rate", Kind.GAUGE, "Share of recent outcomes outside.", ("source", "segment")
)
LEARNING = Metric(
    "tsfm_learning_total",
    Kind.COUNTER,
    "What became of forecasts and outcomes that are learned from, by kind (docs/calibration.md); "
    "every ingress replica tells of the same ones: take the maximum.",
    ("kind",),
)
LEARNING_EXCHANGES = Metric(
    "tsfm_learning_exchanges_total",
    Kind.COUNTER,
    "Exchanges of an ingress replica with the learning actor by result: ok, lost (no answer), "
    "failed.",
    ("result",),
)
LEARNING_DROPPED = Metric(
    "tsfm_learning_dropped_notes_total",
    Kind.COUNTER,
    "Answers of an ingress replica that are never learned from: the queue was full, or learning "
    "failed.",
)

NODES = Metric(
    "tsfm_nodes",
    Kind.GAUGE,
    "Nodes of the cluster by whether this scrape could read their numbers (read, unreachable).",
    ("state",),
)

METRICS = (
    *(REQUESTS, LATENCY, FALLBACKS, CORRECTIONS, CACHE, IN_FLIGHT, KEPT, TASKS),
    *(BATCH_SIZE, RUNTIME, RUNTIME_CALLS, QUEUED, QUEUE_AGE, BREAKER, TRANSITIONS),
    *(COVERAGE, CALIBRATED, COVERAGE_TARGET, COVERAGE_SAMPLES, WIDTH, BREACHES),
    *(LEARNING, LEARNING_EXCHANGES, LEARNING_DROPPED, NODES),
)
