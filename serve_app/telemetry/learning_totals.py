"""What learning has counted, as counters of ``GET /metrics``."""

from serve_app.http.service import LearningPort
from serve_app.telemetry import metrics
from serve_app.telemetry.request_metrics import Totals


def learning_totals(learning: LearningPort | None) -> Totals:
    """Where the counters of learning stand; none where nothing is learned."""
    if learning is None:
        return []
    return [
        (metrics.LEARNING_DROPPED, (), learning.dropped_notes),
        *((metrics.LEARNING_EXCHANGES, (how,), n) for how, n in learning.exchanges.items()),
        *((metrics.LEARNING, (str(what),), n) for what, n in learning.report.counts.items()),
    ]
