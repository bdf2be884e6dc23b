import asyncio
from collections.abc import Sequence

import pytest

from runner.batching.batch_call import BatchItem, ItemResult, batch_item
from runner.batching.dispatcher import BatchResult, QueueStats
from runner.breaker.state_machine import Breakers, BreakerSnapshots
from runner.errors import BreakerOpenError, RuntimeRejectedError, RuntimeTimeoutError
from runner.types import BatchKey, BreakerCommand, BreakerState
from serve_app.telemetry import metrics
from serve_app.telemetry.recorder import Recorder
from serve_app.telemetry.request_metrics import QueueGauges, metered
from tests.support.builders import make_bands, make_config, make_model_request
from tests.support.fakes import FakeClock

SERVED = ItemResult(make_bands(), 2, 0.0, 0.1)
KEY = BatchKey("m", 3, (0.1, 0.5, 0.9))


class FakeCall:
    """A runtime call with fixed results, or one that is refused."""

    def __init__(self, clock: FakeClock, *results: ItemResult | Exception) -> None:
        self._clock = clock
        self._results = results

    async def __call__(self, key: BatchKey, items: Sequence[BatchItem]) -> BatchResult[ItemResult]:
        self._clock.now += 0.25
        if not self._results:
            raise BreakerOpenError(1.0)
        return BatchResult(self._results)


@pytest.mark.parametrize(
    ("results", "told"),
    [
        ((SERVED, SERVED), "ok"),
        ((RuntimeRejectedError(), SERVED), "ok"),
        ((RuntimeTimeoutError(), RuntimeTimeoutError()), "runtime_timeout"),
    ],
)
async def test_call_is_counted_by_its_result_and_timed(
    results: tuple[ItemResult | Exception, ...], told: str
) -> None:
    recorder, clock = Recorder(), FakeClock()
    call = metered(FakeCall(clock, *results), recorder, clock)
    outcome = await call(KEY, [batch_item(make_model_request())] * 2)

    assert outcome.results == results
    assert recorder.counter(metrics.RUNTIME_CALLS, "m", told).value == 1
    assert recorder.histogram(metrics.RUNTIME, "m").sum == pytest.approx(0.25)
    assert recorder.histogram(metrics.BATCH_SIZE, "m").sum == 2


async def test_call_that_the_breaker_refused_was_none() -> None:
    recorder, clock = Recorder(), FakeClock()
    with pytest.raises(BreakerOpenError, match=r".*"):
        await metered(FakeCall(clock), recorder, clock)(KEY, [batch_item(make_model_request())])

    assert sum(recorder.histogram(metrics.RUNTIME, "m").counts) == 0


def breakers_after(command: BreakerCommand) -> BreakerSnapshots:
    breakers = Breakers(make_config().circuit_breaker, lambda: 0.0, "test")
    breakers.command(["m"], command, 0.0)
    return breakers.snapshot(0.0)


async def test_breakers_are_one_for_their_state_and_changes_are_counted() -> None:
    recorder = Recorder()
    queues = QueueGauges(recorder)
    for command in (
        BreakerCommand.RESET,
        BreakerCommand.FORCE_OPEN,
        BreakerCommand.FORCE_OPEN,
        BreakerCommand.RESET,
    ):
        queues.update({}, breakers_after(command), 0)

    states = {s: recorder.gauge(metrics.BREAKER, "m", s).value for s in BreakerState}
    assert states == {s: float(s is BreakerState.CLOSED) for s in BreakerState}
    assert recorder.counter(metrics.TRANSITIONS, "m", "forced_open").value == 1
    assert recorder.counter(metrics.TRANSITIONS, "m", "closed").value == 1


async def test_queues_tasks_and_cached_answers_are_gauges() -> None:
    recorder = Recorder()
    other = asyncio.create_task(asyncio.sleep(60))
    QueueGauges(recorder).update({"m": QueueStats(5, 2, 0.75, 1, (4, 8), 0)}, {}, 17)
    other.cancel()

    assert recorder.gauge(metrics.QUEUED, "m").value == 5
    assert recorder.gauge(metrics.QUEUE_AGE, "m").value == 0.75
    assert recorder.gauge(metrics.KEPT, "runner").value == 17
    assert (recorder.gauge(metrics.TASKS).value or 0) >= 2
