import asyncio
import logging

import pytest

from serve_app.telemetry.flusher import Flusher
from serve_app.telemetry.metrics import CACHE
from serve_app.telemetry.recorder import Recorder
from tests.unit.serve_app.telemetry.test_recorder import FakeSink


class FailingSink(FakeSink):
    """Takes nothing until it is well."""

    well = False

    def add(self, *args: object) -> None:
        if not self.well:
            raise OSError("no agent")
        super().add(*args)  # type: ignore[arg-type] # handed through as it came


async def test_fault_of_the_sink_is_told_once_and_nothing_is_lost_that_it_did_not_take(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder, sink = Recorder(), FailingSink()
    pump = Flusher(recorder, sink, lambda: None)
    recorder.counter(CACHE, "hit").inc()
    with caplog.at_level(logging.ERROR):
        pump.flush()
        recorder.counter(CACHE, "hit").inc()
        pump.flush()
    sink.well = True
    pump.flush()

    assert [record.getMessage() for record in caplog.records] == ["metrics are not handed on"]
    assert sink.of(CACHE, result="hit") == 2


async def test_starting_twice_is_starting_once() -> None:
    before = asyncio.all_tasks()
    pump = Flusher(Recorder(), FakeSink(), lambda: None)
    pump.start()
    pump.start()
    begun = asyncio.all_tasks() - before
    for task in begun:
        task.cancel()

    assert [task.get_name() for task in begun] == ["metrics"]
