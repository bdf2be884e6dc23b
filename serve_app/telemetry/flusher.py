"""Flushes the metrics of a process once a second, outside of requests."""

import asyncio
import logging
from collections.abc import Callable

from serve_app.telemetry.recorder import Recorder, Sink

logger = logging.getLogger(__name__)
EVERY_S = 1.0


class Flusher:
    """Flushes a recorder to a sink; ``update_gauges`` is called before each flush."""

    def __init__(self, recorder: Recorder, sink: Sink, update_gauges: Callable[[], None]) -> None:
        self._recorder = recorder
        self._sink = sink
        self._update_gauges = update_gauges
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    def start(self) -> None:
        """Starts flushing; needs a running event loop. A second call does nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._forever(), name="metrics")

    def flush(self) -> None:
        """Flushes once; the first of consecutive errors is logged, none reaches a request."""
        try:
            self._update_gauges()
            self._recorder.flush(self._sink)
            self._failing = False
        except Exception:
            if not self._failing:
                logger.exception("metrics could not be flushed")
            self._failing = True

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            self.flush()
