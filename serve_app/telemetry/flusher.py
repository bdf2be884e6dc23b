"""Takes a process's numbers to where they are shown, once a second, off every request's way."""

import asyncio
import logging
from collections.abc import Callable

from serve_app.telemetry.recorder import Recorder, Sink

logger = logging.getLogger(__name__)
EVERY_S = 1.0


class Flusher:
    """Hands a recorder on; ``look`` first sets the gauges that somebody has to look at."""

    def __init__(self, recorder: Recorder, sink: Sink, look: Callable[[], None]) -> None:
        self._recorder = recorder
        self._sink = sink
        self._look = look
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    def start(self) -> None:
        """From now on; needs a running event loop. A second call does nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._forever(), name="metrics")

    def flush(self) -> None:
        """Once; a fault is logged when it begins, and never reaches a request."""
        try:
            self._look()
            self._recorder.flush(self._sink)
            self._failing = False
        except Exception:
            if not self._failing:
                logger.exception("metrics are not handed on")
            self._failing = True

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            self.flush()
