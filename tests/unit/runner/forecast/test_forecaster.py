import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from runner.baseline.requests import BaselineRequest
from runner.config.sections import Environment
from runner.errors import ModelNotAllowedError, UnknownModelError
from runner.forecast.answers import AnswerStore, Forecast
from runner.forecast.forecaster import AT_ONCE, Fallback, Forecaster
from runner.forecast.resolved_request import resolve_request
from runner.types import (
    Bands,
    BreakerState,
    FallbackReason,
    ModelFailure,
    ModelRequest,
    Source,
    Space,
    Transform,
)
from tests.support.builders import (
    make_answer,
    make_bands,
    make_config,
    make_registry,
    make_request,
    walk,
)
from tests.support.fakes import FakeBaselinePort, FakeClock, FakeModelPort
from tests.support.virtual_time import run_virtual

REGISTRY = make_registry()


class Bench:
    """A forecaster with fakes around it."""

    def __init__(self, model: FakeModelPort | None = None, **sections: object) -> None:
        self.clock = FakeClock()
        self.model = model or FakeModelPort()
        self.baseline = FakeBaselinePort()
        self.config = make_config(**sections)  # type: ignore[arg-type]
        self.answers = AnswerStore(self.config, self.clock, lambda: 0.0)
        self.fallback = Fallback(self.config, self.answers, self.baseline, self.clock)
        self.forecaster = Forecaster(
            self.config, REGISTRY, self.answers, self.model, self.fallback, self.clock
        )

    async def ask(self, budget_s: float = 1.5, *, shed: bool = False, **changes: Any) -> Forecast:
        deadline = self.clock.now + budget_s
        return await self.forecaster.forecast(make_request(**changes), deadline, shed=shed)


def failing(reason: FallbackReason, retry_in_s: float = 0.0) -> FakeModelPort:
    state = BreakerState.OPEN if retry_in_s else BreakerState.CLOSED
    return FakeModelPort(ModelFailure(reason, state, retry_in_s))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_suited_series_is_answered_by_the_model() -> None:
    bench = Bench()

    forecast = await bench.ask()

    assert forecast.source is Source.MODEL
    assert forecast.fallback_reason is None
    assert forecast.cache_age_s is None
    assert forecast.plan.key.model == "fracast-0"
    assert bench.baseline.requests == []


async def test_runner_gets_what_is_left_of_the_deadline_less_the_reserve() -> None:
    bench = Bench()
    await bench.ask(budget_s=1.0)

    assert bench.model.requests[0].budget_s == pytest.approx(0.88)


async def test_corrections_of_the_bands_are_warnings() -> None:
    bench = Bench(FakeModelPort(make_answer(bands=make_bands(corrections=("values_clipped",)))))

    assert (await bench.ask(params={"temperature": 0.0})).warnings == (
        "model_params_dropped",
        "values_clipped",
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"y_prob": walk(10)}, FallbackReason.TOO_FEW_POINTS),
        ({"liquidity_bucket": "low"}, FallbackReason.LOW_LIQUIDITY),
        (
            {"y_prob": np.r_[walk(40), np.full(20, np.nan), walk(40)]},
            FallbackReason.GAP_TOO_LONG,
        ),
    ],
)
async def test_unsuited_series_goes_to_the_baseline_without_asking_the_model(
    changes: dict[str, Any], reason: FallbackReason
) -> None:
    bench = Bench()

    forecast = await bench.ask(**changes)

    assert (forecast.source, forecast.fallback_reason) == (Source.BASELINE, reason)
    assert f"fallback_{reason}" in forecast.warnings
    assert bench.model.requests == []


@pytest.mark.parametrize("reason", list(FallbackReason))
async def test_failure_of_the_model_becomes_a_baseline_with_its_reason(
    reason: FallbackReason,
) -> None:
    bench = Bench(failing(reason))

    forecast = await bench.ask()

    assert (forecast.source, forecast.fallback_reason) == (Source.BASELINE, reason)
    assert forecast.warnings == (f"fallback_{reason}",)


async def test_equal_request_is_answered_from_the_cache() -> None:
    bench = Bench()
    first = await bench.ask()
    bench.clock.now += 59.0
    again = await bench.ask(market_id="another")

    assert again.cache_age_s == 59.0
    assert again.bands is first.bands
    assert len(bench.model.requests) == 1


async def test_cached_answer_expires() -> None:
    bench = Bench()
    await bench.ask()
    bench.clock.now += 60.0
    await bench.ask()

    assert len(bench.model.requests) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"horizon_steps": 4},
        {"levels": (0.1, 0.9)},
        {"step_s": 600},
        {"model_name": "mock"},
        {"y_prob": walk(40, seed=8)},
        {"x_past": {"v": walk(40)}},
        {"transform": Transform(Space.IDENTITY, 1e-6)},
    ],
)
async def test_whatever_shapes_the_answer_is_part_of_the_key(change: dict[str, Any]) -> None:
    bench = Bench()
    await bench.ask()
    await bench.ask(**change)

    assert len(bench.model.requests) == 2


async def test_future_covariates_are_part_of_the_key() -> None:
    bench = Bench()
    for seed in (1, 2):
        await bench.ask(x_past={"v": walk(40)}, x_future={"v": walk(3, seed)})

    assert len(bench.model.requests) == 2


async def test_fallback_is_never_cached_as_the_models_answer() -> None:
    bench = Bench(failing(FallbackReason.RUNTIME_ERROR))
    await bench.ask()
    bench.model.outcome = make_answer()

    assert (await bench.ask()).source is Source.MODEL


async def test_equal_requests_at_once_share_one_model_call() -> None:
    bench = Bench()
    bench.model.gate = asyncio.Event()
    callers = [asyncio.ensure_future(bench.ask()) for _ in range(5)]
    await settle()
    bench.model.gate.set()
    forecasts = await asyncio.gather(*callers)

    assert len(bench.model.requests) == 1
    assert {f.source for f in forecasts} == {Source.MODEL}


async def test_no_time_for_the_model_means_baseline_at_once() -> None:
    bench = Bench()

    forecast = await bench.ask(budget_s=0.12)

    assert forecast.fallback_reason is FallbackReason.DEADLINE_EXCEEDED
    assert bench.model.requests == []


async def test_late_answer_of_the_model_still_fills_the_cache() -> None:
    bench = Bench()
    bench.model.gate = asyncio.Event()
    late = await bench.ask(budget_s=0.121)
    bench.model.gate.set()
    await settle()
    again = await bench.ask()

    assert late.fallback_reason is FallbackReason.DEADLINE_EXCEEDED
    assert again.source is Source.MODEL
    assert again.cache_age_s is not None


async def test_joining_a_call_with_less_time_does_not_cost_the_patient_caller_its_answer() -> None:
    def too_late_for_the_hasty(request: ModelRequest) -> object:
        if request.budget_s < 0.5:
            return ModelFailure(FallbackReason.DEADLINE_EXCEEDED, BreakerState.CLOSED)
        return make_answer()

    bench = Bench(FakeModelPort(too_late_for_the_hasty))  # type: ignore[arg-type]
    bench.model.gate = asyncio.Event()
    hasty = asyncio.ensure_future(bench.ask(budget_s=0.4))
    await settle()
    patient = asyncio.ensure_future(bench.ask(budget_s=1.5))
    await settle()
    bench.model.gate.set()

    assert (await hasty).fallback_reason is FallbackReason.DEADLINE_EXCEEDED
    assert (await patient).source is Source.MODEL


async def test_caller_that_left_takes_its_work_along() -> None:
    bench = Bench()
    bench.model.gate = asyncio.Event()
    caller = asyncio.ensure_future(bench.ask())
    await settle()
    caller.cancel()
    await settle()

    assert bench.model.cancelled == 1


async def test_open_breaker_is_remembered_for_a_moment_so_that_an_outage_costs_no_hop() -> None:
    bench = Bench(failing(FallbackReason.BREAKER_OPEN, retry_in_s=100.0))
    first = await bench.ask()
    bench.clock.now += 0.4
    second = await bench.ask()
    bench.clock.now += 0.2
    await bench.ask()

    assert first.fallback_reason is FallbackReason.BREAKER_OPEN
    assert second.fallback_reason is FallbackReason.BREAKER_OPEN
    assert second.breaker_state is BreakerState.OPEN
    assert len(bench.model.requests) == 2
    assert bench.answers.breaker_states() == {"fracast-0": BreakerState.OPEN}


async def test_word_of_an_operator_makes_forget_that_a_breaker_was_open() -> None:
    bench = Bench(failing(FallbackReason.BREAKER_OPEN, retry_in_s=100.0))
    await bench.ask()
    bench.answers.told("fracast-0", BreakerState.CLOSED)
    bench.model.outcome = make_answer()
    forecast = await bench.ask()

    assert forecast.breaker_state is BreakerState.CLOSED
    assert len(bench.model.requests) == 2


async def test_expired_answer_stands_in_while_the_model_is_away() -> None:
    bench = Bench()
    first = await bench.ask()
    bench.model.outcome = ModelFailure(FallbackReason.RUNTIME_TIMEOUT, BreakerState.CLOSED)
    bench.clock.now += 100.0
    stale = await bench.ask()
    bench.clock.now += 80.0
    gone = await bench.ask()

    assert stale.cache_stale
    assert stale.bands is first.bands
    assert stale.fallback_reason is FallbackReason.STALE_IF_ERROR
    assert stale.cache_age_s == 100.0
    assert stale.warnings == ("fallback_runtime_timeout",)
    assert gone.source is Source.BASELINE


async def test_answer_from_the_runners_cache_keeps_its_age() -> None:
    bench = Bench(FakeModelPort(make_answer(age_s=50.0)))
    first = await bench.ask()
    bench.clock.now += 9.0
    second = await bench.ask()
    bench.clock.now += 2.0
    await bench.ask()

    assert first.cache_age_s == 50.0
    assert second.cache_age_s == 59.0
    assert len(bench.model.requests) == 2


def fails(bench: Bench) -> None:
    bench.baseline.fails = True


def hangs(bench: Bench) -> None:
    bench.baseline.hangs = True


@pytest.mark.parametrize("trouble", [fails, hangs])
async def test_baseline_is_computed_in_process_when_the_service_cannot(
    trouble: Callable[[Bench], None],
) -> None:
    bench = Bench(fallback={"baseline_timeout_ms": 1.0})
    trouble(bench)

    forecast = await bench.ask(liquidity_bucket="low")

    assert forecast.warnings[:2] == ("fallback_low_liquidity", "baseline_in_process")
    assert forecast.bands.y_prob.shape == (3, 3)


async def test_baseline_service_without_an_answer_rests_before_it_is_asked_again() -> None:
    bench = Bench(fallback={"baseline_rest_s": 5.0})
    bench.baseline.fails = True
    await bench.ask(liquidity_bucket="low")
    bench.baseline.fails = False

    bench.clock.now += 4.9
    resting = await bench.ask(liquidity_bucket="low")
    bench.clock.now += 0.2
    rested = await bench.ask(liquidity_bucket="low")

    assert "baseline_in_process" in resting.warnings
    assert "baseline_in_process" not in rested.warnings
    assert len(bench.baseline.requests) == 2


@pytest.mark.parametrize(
    ("items", "in_process"), [(1, True), (AT_ONCE, True), (AT_ONCE + 1, False)]
)
def test_baseline_service_has_longer_for_many(items: int, in_process: bool) -> None:
    async def takes_30_ms(requests: Sequence[BaselineRequest]) -> Sequence[Bands]:
        await asyncio.sleep(0.03)
        return [make_bands(r.horizon_steps, len(r.levels)) for r in requests]

    bench = Bench(fallback={"baseline_timeout_ms": 20.0})
    bench.baseline.forecast = takes_30_ms  # type: ignore[method-assign]
    plan = resolve_request(make_request(), REGISTRY, bench.config)
    failed = [(plan, FallbackReason.BREAKER_OPEN)] * items

    forecasts = run_virtual(bench.fallback.many(failed, bench.clock.now + 10.0))

    assert ["baseline_in_process" in f.warnings for f in forecasts] == [in_process] * items


async def test_baseline_service_is_not_waited_for_when_the_deadline_is_here() -> None:
    bench = Bench()

    forecast = await bench.ask(budget_s=0.0)

    assert "baseline_in_process" in forecast.warnings
    assert bench.baseline.requests == []


async def test_window_with_a_single_observation_reaches_the_baseline_filled() -> None:
    bench = Bench()
    y_ts = np.array([0.0, 1e9])
    await bench.ask(y_prob=np.array([0.2, 0.4]), y_ts=y_ts)

    assert np.isfinite(bench.baseline.requests[0].y_prob).all()


@pytest.mark.parametrize(
    ("changes", "environment", "error"),
    [
        ({"model_name": "nobody"}, Environment.DEV, UnknownModelError),
        ({"model_name": "moirai"}, Environment.PROD, ModelNotAllowedError),
    ],
)
async def test_models_that_may_not_be_served_are_refused(
    changes: dict[str, Any], environment: str, error: type[Exception]
) -> None:
    bench = Bench(environment=environment)
    answer: Awaitable[Forecast] = bench.ask(**changes)

    with pytest.raises(error, match=r"[mM]odel"):
        await answer


async def test_model_version_that_cannot_be_chosen_is_a_warning() -> None:
    bench = Bench()

    assert (await bench.ask(model_version="9")).warnings == ("model_version_not_selectable",)
    assert (await bench.ask(model_version="0.1.0")).warnings == ()


async def test_under_too_much_load_the_baseline_answers_in_place() -> None:
    bench = Bench()

    forecast = await bench.ask(shed=True)

    assert forecast.fallback_reason is FallbackReason.OVERLOADED
    assert "baseline_in_process" in forecast.warnings
    assert bench.model.requests == []
    assert bench.baseline.requests == []


async def test_under_too_much_load_kept_answers_come_first_fresh_then_stale() -> None:
    bench = Bench()
    await bench.ask()
    fresh = await bench.ask(shed=True)
    bench.clock.now += 100.0
    stale = await bench.ask(shed=True)

    assert fresh.fallback_reason is None
    assert stale.fallback_reason is FallbackReason.STALE_IF_ERROR
    assert stale.warnings == ("fallback_overloaded",)


async def test_unsuited_series_keeps_its_own_reason_under_load() -> None:
    forecast = await Bench().ask(shed=True, liquidity_bucket="low")

    assert forecast.fallback_reason is FallbackReason.LOW_LIQUIDITY
    assert "baseline_in_process" in forecast.warnings
