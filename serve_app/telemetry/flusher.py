"""Sends the metrics of a process to Ray Serve once a second, outside of requests.

Ray collects them from every replica of every node. Histograms are sent as counters, a series for
each bucket: Ray's own histograms cost one call per value, and its collector estimates their sums
from the middles of the buckets.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ray.serve import metrics as serve_metrics

from serve_app.telemetry.metrics import Kind
from serve_app.telemetry.recorder import Change, Recorder

logger = logging.getLogger(__name__)
EVERY_S = 1.0


class RaySink:
    """Creates each Serve metric at its first use; works only in a replica."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __call__(self, change: Change) -> None:
        """Increments a Serve counter, or sets a gauge."""
        metric, part, tags, value = change
        name, is_gauge = metric.ray_name(part), metric.kind is Kind.GAUGE
        if name not in self._made:
            kind: Any = serve_metrics.Gauge if is_gauge else serve_metrics.Counter
            self._made[name] = kind(name, description=metric.help, tag_keys=tuple(tags))
        made = self._made[name]
        (made.set if is_gauge else made.inc)(value, dict(tags))


class Flusher:
    """Sends a recorder's changes to ``sink``; ``update_gauges`` is called before."""

    def __init__(
        self,
        recorder: Recorder,
        sink: Callable[[Change], object],
        update_gauges: Callable[[], None],
    ) -> None:
        self._recorder = recorder
        self._sink = sink
        self._update_gauges = update_gauges
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    def start(self) -> None:
        """Starts flushing once a second, in the running loop. A second call does nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._forever(), name="metrics")

    def flush(self) -> None:
        """Flushes once; the first of consecutive errors is logged, none reaches a request."""
        try:
            self._update_gauges()
            for change in self._recorder.changes():
                self._sink(change)
            self._failing = False
        except Exception:
            if not self._failing:
                logger.exception("metrics could not be flushed")
            self._failing = True

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            self.flush()
