import asyncio
import logging

import pytest

from serve_app.telemetry.flusher import Flusher
from serve_app.telemetry.metrics import CACHE
from serve_app.telemetry.recorder import Recorder
from tests.unit.serve_app.telemetry.test_recorder import FakeSink


class FailingSink(FakeSink):
    """Raises until ``working`` is True."""

    working = False

    def add(self, *args: object) -> None:
        if not self.working:
            raise OSError("no agent")
        super().add(*args)  # type: ignore[arg-type] # the same arguments


async def test_first_error_of_the_sink_is_logged_and_the_counts_are_sent_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder, sink = Recorder(), FailingSink()
    flusher = Flusher(recorder, sink, lambda: None)
    recorder.counter(CACHE, "hit").inc()
    with caplog.at_level(logging.ERROR):
        flusher.flush()
        recorder.counter(CACHE, "hit").inc()
        flusher.flush()
    sink.working = True
    flusher.flush()

    assert [record.getMessage() for record in caplog.records] == ["metrics could not be flushed"]
    assert sink.of(CACHE, result="hit") == 2


async def test_starting_twice_is_starting_once() -> None:
    before = asyncio.all_tasks()
    flusher = Flusher(Recorder(), FakeSink(), lambda: None)
    flusher.start()
    flusher.start()
    begun = asyncio.all_tasks() - before
    for task in begun:
        task.cancel()

    assert [task.get_name() for task in begun] == ["metrics"]
