import asyncio
from collections.abc import Sequence

import pytest

from runner.batch_call import Served
from runner.call_outcome import CallOutcome
from runner.dispatcher import Dispatcher
from runner.errors import (
    BreakerOpenError,
    ModelError,
    QueueFullError,
    RuntimeTimeoutError,
    TooLateError,
)
from runner.model_service import ModelService, reason_of, size_bytes
from runner.types import (
    BatchKey,
    BreakerState,
    FallbackReason,
    ModelAnswer,
    ModelFailure,
    ModelRequest,
)
from tests.builders import make_bands, make_config, make_model_request, walk
from tests.fakes import FakeClock


class FakeBreakerView:
    def __init__(self) -> None:
        self.wait_s = 0.0

    def state(self, name: str) -> BreakerState:
        return BreakerState.OPEN if self.wait_s else BreakerState.CLOSED

    def retry_in_s(self, name: str) -> float:
        return self.wait_s


class Bench:
    """The service over a real dispatcher whose calls answer at once."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.breakers = FakeBreakerView()
        self.batches: list[Sequence[ModelRequest]] = []
        self.error: Exception | None = None
        self.lingering: asyncio.Future[None] | None = None
        config = make_config()
        dispatcher: Dispatcher[BatchKey, ModelRequest, Served] = Dispatcher(
            self._call,
            lane_of=lambda key: key.model,
            batch_limit=lambda key: 16,
            max_batch_bytes=config.tollama.max_request_bytes,
            settings=config.batching,
            lease_s=1.0,
            clock=self.clock,
        )
        self.service = ModelService(
            dispatcher, self.breakers, config.cache, self.clock, lambda: 0.0
        )

    async def _call(self, key: BatchKey, requests: Sequence[ModelRequest]) -> CallOutcome[Served]:
        self.batches.append(requests)
        if self.error is not None:
            raise self.error
        if self.lingering is not None:
            return CallOutcome([RuntimeTimeoutError()] * len(requests), self.lingering)
        now = self.clock.now
        return CallOutcome([Served(make_bands(), len(requests), now, now + 0.04) for _ in requests])


async def test_items_that_arrive_together_travel_together() -> None:
    bench = Bench()
    requests = [make_model_request(cache_key=bytes([i])) for i in range(5)]
    answers = await asyncio.gather(*(bench.service.forecast(r) for r in requests))

    assert [len(b) for b in bench.batches] == [5]
    assert all(isinstance(a, ModelAnswer) and a.batch_size == 5 for a in answers)
    assert isinstance(answers[0], ModelAnswer)
    assert answers[0].runtime_ms == pytest.approx(40.0)
    assert answers[0].age_s is None


async def test_equal_request_of_another_replica_is_answered_from_the_cache_with_its_age() -> None:
    bench = Bench()
    await bench.service.forecast(make_model_request())
    bench.clock.now += 7.0
    again = await bench.service.forecast(make_model_request())

    assert isinstance(again, ModelAnswer)
    assert again.age_s == 7.0
    assert len(bench.batches) == 1


async def test_open_breaker_is_answered_without_queueing() -> None:
    bench = Bench()
    bench.breakers.wait_s = 30.0

    outcome = await bench.service.forecast(make_model_request())

    assert outcome == ModelFailure(FallbackReason.BREAKER_OPEN, BreakerState.OPEN, 30.0)
    assert bench.batches == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeTimeoutError(), FallbackReason.RUNTIME_TIMEOUT),
        (BreakerOpenError(5.0), FallbackReason.BREAKER_OPEN),
    ],
)
async def test_errors_leave_as_values(error: Exception, reason: FallbackReason) -> None:
    bench = Bench()
    bench.error = error

    outcome = await bench.service.forecast(make_model_request())

    assert outcome == ModelFailure(reason, BreakerState.CLOSED, 0.0)


async def test_item_without_time_left_is_too_late() -> None:
    outcome = await Bench().service.forecast(make_model_request(budget_s=0.0))

    assert outcome == ModelFailure(FallbackReason.DEADLINE_EXCEEDED, BreakerState.CLOSED, 0.0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (QueueFullError(), FallbackReason.OVERLOADED),
        (TooLateError(), FallbackReason.DEADLINE_EXCEEDED),
        (ModelError(), FallbackReason.RUNTIME_ERROR),
    ],
)
def test_every_error_on_the_way_has_a_reason(error: Exception, reason: FallbackReason) -> None:
    assert reason_of(error) is reason


async def test_late_results_are_kept_for_the_next_caller() -> None:
    bench = Bench()
    now = bench.clock.now
    late: list[Served | Exception] = [
        Served(make_bands(), 2, now - 2.0, now),
        RuntimeTimeoutError(),
    ]
    requests = [make_model_request(cache_key=b"a"), make_model_request(cache_key=b"b")]
    bench.service.keep_late(requests, late)
    answers = [await bench.service.forecast(r) for r in requests]

    assert isinstance(answers[0], ModelAnswer)
    assert answers[0].age_s == 0.0
    assert [len(b) for b in bench.batches] == [1]


def test_size_counts_points_covariates_and_what_is_known_ahead() -> None:
    plain = make_model_request(y_prob=walk(100))
    rich = make_model_request(y_prob=walk(100), x_past={"v": walk(100)}, x_future={"v": walk(3)})

    assert size_bytes(rich) - size_bytes(plain) == 48 * 103


async def test_runtime_that_hangs_costs_the_next_callers_no_wait() -> None:
    bench = Bench()
    bench.lingering = asyncio.get_running_loop().create_future()
    first = await bench.service.forecast(make_model_request(cache_key=b"a"))
    second = await bench.service.forecast(make_model_request(cache_key=b"b"))
    bench.lingering.set_result(None)
    bench.lingering = None
    await asyncio.sleep(0)
    third = await bench.service.forecast(make_model_request(cache_key=b"c"))

    timed_out = ModelFailure(FallbackReason.RUNTIME_TIMEOUT, BreakerState.CLOSED)
    assert (first, second) == (timed_out, timed_out)
    assert len(bench.batches) == 2
    assert isinstance(third, ModelAnswer)
