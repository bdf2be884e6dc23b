import asyncio
import json
from collections.abc import Sequence

import numpy as np
import pytest

from runner.bands import to_logit
from runner.batching.batch_call import (
    BatchCall,
    ItemResult,
    RuntimeResult,
    batch_item,
)
from runner.batching.dispatcher import BatchResult
from runner.breaker.state_machine import Verdict
from runner.config.sections import BandsSection
from runner.errors import (
    BadOutputError,
    BreakerOpenError,
    ModelError,
    RuntimeCircuitOpenError,
    RuntimeFailedError,
    RuntimeRejectedError,
    RuntimeTimeoutError,
)
from runner.tollama.wire import EncodedSeries
from runner.types import BatchKey, ModelRequest, RuntimeForecast, Space, Transform
from tests.support.builders import make_config, make_model_request, walk
from tests.support.fakes import FakeBreakers, FakeClock

CONFIG = make_config(tollama={"timeout_s": 0.01})
KEY = BatchKey("fracast-0", 3, (0.1, 0.5, 0.9))
PATHS = to_logit(np.tile([0.3, 0.4, 0.5], (3, 1)), 1e-6)  # (H, Q)


class FakeRuntime:
    def __init__(self, *raw: RuntimeResult | np.ndarray, error: Exception | None = None) -> None:
        self.raw = [RuntimeForecast(r) if isinstance(r, np.ndarray) else r for r in raw]
        self.error = error
        self.hold: asyncio.Event | None = None
        self.series: Sequence[EncodedSeries] = ()
        self.cancelled = False

    async def forecast(
        self, key: BatchKey, series: Sequence[EncodedSeries], *, budget_s: float
    ) -> list[RuntimeResult]:
        self.series = series
        try:
            if self.hold is not None:
                await self.hold.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.error is not None:
            raise self.error
        return self.raw


class Bench:
    def __init__(self, runtime: FakeRuntime, limits: BandsSection = CONFIG.bands) -> None:
        self.runtime = runtime
        self.breakers = FakeBreakers()
        self.late: list[ItemResult | Exception] = []
        self.call = BatchCall(
            runtime,
            self.breakers,
            lambda model: f"{model}@2",
            CONFIG.tollama,
            limits,
            FakeClock(),
            lambda _, results: self.late.extend(results),
        )

    async def run(self, *requests: ModelRequest) -> BatchResult[ItemResult]:
        return await self.call(KEY, [batch_item(request) for request in requests])


def target(series: EncodedSeries) -> list[float]:
    """The values that the runtime gets."""
    values: list[float] = json.loads(b"{" + series.rest)["target"]
    return values


def bands(result: ItemResult | Exception) -> np.ndarray:
    assert isinstance(result, ItemResult)
    return result.bands.y_prob


async def test_series_are_sent_in_log_odds_and_bands_are_probabilities() -> None:
    bench = Bench(FakeRuntime(PATHS, PATHS + 1.0))
    first, second = make_model_request(), make_model_request(y_prob=walk(9, 3))
    outcome = await bench.run(first, second)

    sent = target(bench.runtime.series[1])
    np.testing.assert_array_equal(sent, np.round(to_logit(second.y_prob, 1e-6), 8))
    np.testing.assert_allclose(bands(outcome.results[0]), np.tile([0.3, 0.4, 0.5], (3, 1)))
    assert bench.breakers.recorded == [("fracast-0@2", Verdict.SUCCESS)]
    assert outcome.abandoned is None
    assert isinstance(result := outcome.results[0], ItemResult)
    assert (result.batch_size, result.began, result.ended) == (2, 1000.0, 1000.0)


async def test_what_the_runtime_said_of_a_series_goes_with_its_bands() -> None:
    said = RuntimeForecast(PATHS, ("runtime_warning",), ("volume",))
    outcome = await Bench(FakeRuntime(said, PATHS)).run(make_model_request(), make_model_request())
    first, second = outcome.results

    assert isinstance(first, ItemResult)
    assert isinstance(second, ItemResult)
    assert (first.notices, first.covariates_ignored) == (("runtime_warning",), ("volume",))
    assert (second.notices, second.covariates_ignored) == ((), ())


async def test_transforms_may_differ_within_a_batch() -> None:
    identity = Transform(Space.IDENTITY, 1e-6)
    raw = np.tile([0.3, 0.4, 1.7], (3, 1))
    bench = Bench(FakeRuntime(PATHS, raw))
    outcome = await bench.run(make_model_request(), make_model_request(transform=identity))

    np.testing.assert_allclose(bands(outcome.results[0])[0], [0.3, 0.4, 0.5])
    np.testing.assert_allclose(bands(outcome.results[1])[0], [0.3, 0.4, 1.0])
    sent = target(bench.runtime.series[1])
    np.testing.assert_allclose(sent, make_model_request().y_prob, atol=1e-8)


async def test_bands_that_are_not_finite_are_bad_output() -> None:
    outcome = await Bench(FakeRuntime(PATHS * np.nan)).run(make_model_request())

    assert isinstance(outcome.results[0], BadOutputError)


@pytest.mark.parametrize(
    ("raw", "verdict"),
    [
        ((RuntimeRejectedError(), PATHS), Verdict.SUCCESS),
        ((RuntimeRejectedError(), BadOutputError()), Verdict.FAILURE),
        ((RuntimeRejectedError(), RuntimeRejectedError()), Verdict.IGNORED),
    ],
)
async def test_errors_of_items_are_their_own_and_one_answer_is_a_success(
    raw: tuple[ModelError, ModelError | np.ndarray], verdict: Verdict
) -> None:
    bench = Bench(FakeRuntime(*raw))
    outcome = await bench.run(make_model_request(), make_model_request())

    assert outcome.results[0] is raw[0]
    assert isinstance(outcome.results[1], ItemResult) is (raw[1] is PATHS)
    assert bench.breakers.recorded == [("fracast-0@2", verdict)]


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (RuntimeFailedError(), Verdict.FAILURE),
        (RuntimeRejectedError(), Verdict.IGNORED),
        (RuntimeCircuitOpenError(), Verdict.NO_INFORMATION),
    ],
)
async def test_error_of_the_call_is_the_error_of_every_item_and_recorded(
    error: ModelError, verdict: Verdict
) -> None:
    bench = Bench(FakeRuntime(error=error))
    outcome = await bench.run(make_model_request(), make_model_request())

    assert list(outcome.results) == [error, error]
    assert bench.breakers.recorded == [("fracast-0@2", verdict)]


async def test_open_breaker_prevents_the_call() -> None:
    bench = Bench(FakeRuntime(PATHS))
    bench.breakers.waits["fracast-0@2"] = 9.0
    with pytest.raises(BreakerOpenError, match="open"):
        await bench.run(make_model_request())

    assert bench.runtime.series == ()


async def test_slow_call_times_out_and_its_late_results_are_kept() -> None:
    bench = Bench(FakeRuntime(PATHS))
    bench.runtime.hold = asyncio.Event()
    outcome = await bench.run(make_model_request())
    assert outcome.abandoned is not None
    assert not outcome.abandoned.done()
    bench.runtime.hold.set()
    await outcome.abandoned

    assert isinstance(outcome.results[0], RuntimeTimeoutError)
    assert bench.breakers.recorded == [("fracast-0@2", Verdict.FAILURE)]
    np.testing.assert_allclose(bands(bench.late[0])[0], [0.3, 0.4, 0.5])


async def test_abandoned_call_is_cancelled_when_its_lease_ends() -> None:
    bench = Bench(FakeRuntime(PATHS))
    bench.runtime.hold = asyncio.Event()
    outcome = await bench.run(make_model_request())
    assert outcome.abandoned is not None
    outcome.abandoned.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert bench.runtime.cancelled
    assert bench.late == []


async def test_cancelled_batch_call_cancels_the_call() -> None:
    bench = Bench(FakeRuntime(PATHS))
    bench.runtime.hold = asyncio.Event()
    task = asyncio.ensure_future(bench.run(make_model_request()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)

    assert bench.runtime.cancelled
    assert bench.breakers.recorded == [("fracast-0@2", Verdict.IGNORED)]


async def test_the_least_width_of_a_series_is_its_tick_or_the_fixed_one_if_that_is_less() -> None:
    limits = CONFIG.bands.model_copy(update={"min_interval_ticks": 1.0})
    flat = np.full_like(PATHS, to_logit(np.array(0.4), 1e-6))
    bench = Bench(FakeRuntime(RuntimeFailedError(), flat, flat, flat), limits=limits)
    prices = [np.array([0.4, 0.4 + tick]) for tick in (0.3, 0.001, 0.005, 0.3)]
    outcome = await bench.run(*(make_model_request(y_prob=y) for y in prices))

    widths = [np.ptp(bands(result), axis=1) for result in outcome.results[1:]]
    np.testing.assert_allclose(widths, [[0.001] * 3, [0.005] * 3, [0.02] * 3])
