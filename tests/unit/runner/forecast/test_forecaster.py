import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from runner.baseline.ewma_bands import BaselineRequest
from runner.calibration.coverage import Learned
from runner.calibration.miscoverage import CoverageTest, Miscovers
from runner.calibration.skill import skill_segment
from runner.calibration.state import ConformalState
from runner.config.sections import Pin, RoutingMode
from runner.forecast.answers import Forecast
from runner.forecast.forecaster import BASELINE_AT_ONCE
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
from tests.support.builders import AS_OF, make_answer, make_bands, make_request, walk
from tests.support.learning import make_paired
from tests.support.virtual_time import run_virtual
from tests.unit.runner.forecast.forecasters import Bench, failure, resolved, settle

SEGMENT = skill_segment(make_request().y_prob, "5m", None)
Ask = Callable[..., Awaitable[Forecast]]


async def ask_one(bench: Bench, budget_s: float = 1.5, **changes: Any) -> Forecast:
    return await bench.ask(budget_s, **changes)


async def ask_batch(bench: Bench, budget_s: float = 1.5, **changes: Any) -> Forecast:
    (forecast,) = await bench.ask_many(changes, budget_s=budget_s)
    assert isinstance(forecast, Forecast)
    return forecast


@pytest.fixture(params=[ask_one, ask_batch], ids=["one", "batch"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Asks for one forecast, as a single request and as a batch: the decisions are the same."""
    function: Ask = request.param
    return function


async def test_model_gets_the_time_until_the_deadline_less_the_reserve(ask: Ask) -> None:
    bench = Bench()
    await ask(bench, budget_s=1.0)

    assert bench.model.requests[0].budget_s == pytest.approx(0.88)


async def test_dropped_parameters_and_corrected_bands_are_warnings(ask: Ask) -> None:
    bench = Bench(make_answer(bands=make_bands(corrections=("values_clipped",))))

    assert (await ask(bench, params={"temperature": 0.0})).warnings == (
        "model_params_dropped",
        "values_clipped",
    )


async def test_ineligible_series_goes_to_the_baseline_without_a_model_call(ask: Ask) -> None:
    bench = Bench()

    forecast = await ask(bench, y_prob=walk(10))

    assert (forecast.source, forecast.fallback_reason) == (Source.BASELINE, "too_few_points")
    assert forecast.warnings == ("fallback_too_few_points",)
    assert bench.model.requests == []


def routing_bench(mode: str = "enforce", pins: dict[str, str] | None = None) -> Bench:
    """A forecaster that has learned that its model is worse in markets like those of the tests."""
    pinned = {segment: Pin(pin) for segment, pin in (pins or {}).items()}
    bench = Bench(routing={"mode": RoutingMode(mode), "pins": pinned})
    worse = make_paired(ratio=2.0)
    known = {("fracast-0", SEGMENT): worse, ("fracast-0", "all"): worse}
    bench.answers.calibrate_by(Learned(ConformalState(0.8), {}, known))
    return bench


@pytest.mark.parametrize(
    ("mode", "pins", "reason"),
    [
        ("enforce", {}, "routed_by_skill"),
        ("observe", {}, None),
        ("off", {}, None),
        ("enforce", {"all": "model"}, None),
        ("enforce", {"all": "model", SEGMENT: "baseline"}, "pinned_to_baseline"),
        ("enforce", {"all": "baseline", SEGMENT: "model"}, None),
        ("observe", {"all": "baseline"}, None),
    ],
)
async def test_model_that_loses_to_the_baseline_is_not_asked(
    ask: Ask, mode: str, pins: dict[str, str], reason: str | None
) -> None:
    bench = routing_bench(mode, pins)

    assert (await ask(bench)).fallback_reason == reason
    assert len(bench.model.requests) == (reason is None)


async def test_model_whose_calibrated_bands_do_not_hold_what_they_promise_is_not_asked(
    ask: Ask,
) -> None:
    bench = Bench(routing={"mode": RoutingMode.ENFORCE})
    narrow = CoverageTest(100, 0.5, miscovers=Miscovers.UNDER)
    tests = {"fracast-0": narrow, "mock": CoverageTest()}
    bench.answers.calibrate_by(Learned(ConformalState(0.8), {}, {}, tests))

    assert (await ask(bench)).fallback_reason == "routed_by_coverage"
    assert (await ask(bench, model_name="mock")).fallback_reason is None


async def test_segment_of_which_nothing_is_known_follows_all_others(ask: Ask) -> None:
    still = np.full(60, 0.5)

    assert (await ask(routing_bench(), y_prob=still)).fallback_reason == "routed_by_skill"


async def test_series_that_does_not_suit_the_model_says_that_and_not_its_skill(ask: Ask) -> None:
    assert (await ask(routing_bench(), y_prob=walk(10))).fallback_reason == "too_few_points"


@pytest.mark.parametrize("reason", list(FallbackReason))
async def test_failure_of_the_model_becomes_a_baseline_with_its_reason(
    ask: Ask, reason: FallbackReason
) -> None:
    forecast = await ask(Bench(failure(reason)))

    assert (forecast.source, forecast.fallback_reason) == (Source.BASELINE, reason)
    assert forecast.warnings == (f"fallback_{reason}",)


async def test_equal_request_is_answered_from_the_cache_until_it_expires(ask: Ask) -> None:
    bench = Bench()
    first = await ask(bench)
    bench.clock.now += 59.0
    again = await ask(bench, market_id="another")
    bench.clock.now += 1.0
    await ask(bench)

    assert again.cache_age_s == 59.0
    assert again.bands is first.bands
    assert len(bench.model.requests) == 2
    assert bench.answers.kept_answers == 1


@pytest.mark.parametrize(
    "change",
    [
        {"horizon_steps": 4},
        {"levels": (0.1, 0.9)},
        {"step_s": 600},
        {"model_name": "mock"},
        {"y_prob": walk(40, seed=8)},
        {"x_past": {"v": walk(40)}},
        {"x_future": {"v": walk(3)}},
        {"transform": Transform(Space.IDENTITY, 1e-6)},
    ],
)
async def test_everything_that_changes_the_bands_changes_the_cache_key(
    change: dict[str, Any],
) -> None:
    usual = {"model_name": "chronos2"}
    assert resolved(**{**usual, **change}).cache_key != resolved(**usual).cache_key


@pytest.mark.parametrize(
    ("model", "past", "future"),
    [("chronos2", {"v"}, {"v"}), ("toto", {"v"}, set()), ("mock", set(), set())],
)
async def test_covariates_that_a_model_does_not_use_are_not_sent_and_change_no_key(
    ask: Ask, model: str, past: set[str], future: set[str]
) -> None:
    bench, covariates = Bench(), {"x_past": {"v": walk(60)}, "x_future": {"v": walk(3)}}
    forecast = await ask(bench, model_name=model, **covariates)

    (sent,) = bench.model.requests
    assert (set(sent.x_past), set(sent.x_future)) == (past, future)
    assert forecast.covariates_ignored == (() if past else ("v",))
    key = resolved(model_name=model).cache_key
    assert (resolved(model_name=model, **covariates).cache_key == key) == (not past)


async def test_what_the_runtime_says_is_in_the_answer_and_only_names_of_the_request(
    ask: Ask,
) -> None:
    said = {"notices": ("runtime_warning",), "covariates_ignored": ("v", "<b>")}
    bench = Bench(make_answer(**said))
    forecast = await ask(bench, model_name="chronos2", x_past={"v": walk(60), "w": walk(60)})

    assert forecast.warnings == ("runtime_warning",)
    assert forecast.covariates_ignored == ("v",)


async def test_fallback_is_never_cached_as_the_models_answer(ask: Ask) -> None:
    bench = Bench(failure(FallbackReason.RUNTIME_ERROR))
    await ask(bench)
    bench.model.outcome = make_answer()

    assert (await ask(bench)).source is Source.MODEL


@pytest.mark.parametrize(
    ("budget_s", "model_calls", "service_calls"),
    [(0.13, 1, 1), (0.12, 0, 1), (0.0, 0, 0)],
    ids=["too short for the model", "no time for the model", "no time at all"],
)
async def test_model_and_baseline_service_are_asked_only_as_long_as_there_is_time(
    ask: Ask, budget_s: float, model_calls: int, service_calls: int
) -> None:
    bench = Bench()
    bench.model.gate = asyncio.Event()

    forecast = await ask(bench, budget_s=budget_s)

    assert forecast.source is Source.BASELINE
    assert forecast.fallback_reason is FallbackReason.DEADLINE_EXCEEDED
    assert ("baseline_in_process" in forecast.warnings) is (service_calls == 0)
    assert len(bench.model.requests) == model_calls
    assert len(bench.baseline.requests) == service_calls


async def test_known_open_breaker_costs_no_call_for_a_moment(ask: Ask) -> None:
    bench = Bench(failure(FallbackReason.BREAKER_OPEN, retry_in_s=100.0))
    first = await ask(bench)
    bench.clock.now += 0.4
    second = await ask(bench)
    bench.clock.now += 0.2
    await ask(bench)

    assert first.fallback_reason is FallbackReason.BREAKER_OPEN
    assert second.fallback_reason is FallbackReason.BREAKER_OPEN
    assert second.breaker_state is BreakerState.OPEN
    assert len(bench.model.requests) == 2
    assert bench.answers.breaker_states() == {"fracast-0": BreakerState.OPEN}


async def test_expired_answer_is_used_while_the_model_fails(ask: Ask) -> None:
    bench = Bench()
    first = await ask(bench)
    bench.model.outcome = failure(FallbackReason.RUNTIME_TIMEOUT)
    bench.clock.now += 100.0
    stale = await ask(bench)
    bench.clock.now += 80.0
    gone = await ask(bench)

    assert stale.cache_stale
    assert stale.bands is first.bands
    assert stale.fallback_reason is FallbackReason.STALE_IF_ERROR
    assert stale.cache_age_s == 100.0
    assert stale.warnings == ("fallback_runtime_timeout",)
    assert gone.source is Source.BASELINE


async def test_answer_from_the_runners_cache_keeps_its_age(ask: Ask) -> None:
    bench = Bench(make_answer(age_s=50.0))
    first = await ask(bench)
    bench.clock.now += 9.0
    second = await ask(bench)
    bench.clock.now += 2.0
    await ask(bench)

    assert first.cache_age_s == 50.0
    assert second.cache_age_s == 59.0
    assert len(bench.model.requests) == 2


# Equal single requests at the same time.


async def test_equal_requests_at_once_share_one_model_call() -> None:
    bench = Bench()
    bench.model.gate = asyncio.Event()
    callers = [asyncio.ensure_future(bench.ask()) for _ in range(5)]
    await settle()
    bench.model.gate.set()
    forecasts = await asyncio.gather(*callers)

    assert len(bench.model.requests) == 1
    assert {f.source for f in forecasts} == {Source.MODEL}


async def test_late_answer_of_the_model_still_fills_the_cache() -> None:
    bench = Bench()
    bench.model.gate = asyncio.Event()
    late = await bench.ask(budget_s=0.121)
    joined = asyncio.ensure_future(bench.ask())
    await settle()
    joined.cancel()  # the call goes on: one of its callers timed out
    await settle()
    bench.model.gate.set()
    await settle()
    again = await bench.ask()

    assert late.fallback_reason is FallbackReason.DEADLINE_EXCEEDED
    assert again.source is Source.MODEL
    assert again.cache_age_s is not None


def test_request_does_not_join_a_call_that_will_never_end() -> None:
    async def main() -> None:
        bench.model.gate = asyncio.Event()  # as without any Runner
        await bench.ask()
        await asyncio.sleep(60)
        await bench.ask()

    bench = Bench()
    run_virtual(main())

    assert len(bench.model.requests) == 2


async def test_request_that_joined_a_call_with_less_time_asks_again() -> None:
    def late_below_half_a_second(request: ModelRequest) -> object:
        if request.budget_s < 0.5:
            return ModelFailure(FallbackReason.DEADLINE_EXCEEDED, BreakerState.CLOSED)
        return make_answer()

    bench = Bench(late_below_half_a_second)
    bench.model.gate = asyncio.Event()
    short = asyncio.ensure_future(bench.ask(budget_s=0.4))
    await settle()
    long = asyncio.ensure_future(bench.ask(budget_s=1.5))
    await settle()
    bench.model.gate.set()

    assert (await short).fallback_reason is FallbackReason.DEADLINE_EXCEEDED
    assert (await long).source is Source.MODEL


async def test_model_call_is_cancelled_with_the_last_of_its_callers() -> None:
    bench = Bench()
    bench.model.gate = asyncio.Event()
    callers = [asyncio.ensure_future(bench.ask()) for _ in range(2)]
    cancelled = []
    for caller in callers:
        await settle()
        caller.cancel()
        await settle()
        cancelled.append(bench.model.cancelled)

    assert cancelled == [0, 1]


async def test_cancelled_batch_cancels_its_model_call() -> None:
    bench = Bench()
    bench.model.gate = asyncio.Event()
    caller = asyncio.ensure_future(bench.ask_many({}))
    await settle()
    caller.cancel()
    await settle()

    assert bench.model.cancelled == 1


async def test_request_just_after_a_cancelled_one_does_not_join_its_call() -> None:
    bench = Bench()
    bench.model.gate = asyncio.Event()
    cancelled = asyncio.ensure_future(bench.ask())
    await settle()
    cancelled.cancel()
    bench.model.gate.set()
    outcomes = await asyncio.gather(cancelled, bench.ask(), return_exceptions=True)

    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert isinstance(outcomes[1], Forecast)
    assert outcomes[1].source is Source.MODEL


# The baseline service.


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
async def test_baseline_is_computed_in_process_when_the_service_cannot(
    ask: Ask, trouble: str
) -> None:
    bench = Bench(fallback={"baseline_timeout_ms": 1.0})
    setattr(bench.baseline, trouble, True)

    forecast = await ask(bench, liquidity_bucket="low")

    assert forecast.warnings[:2] == ("fallback_low_liquidity", "baseline_in_process")
    assert forecast.bands.y_prob.shape == (3, 3)


async def test_baseline_service_that_failed_is_not_asked_for_a_while(ask: Ask) -> None:
    bench = Bench(fallback={"baseline_rest_s": 5.0})
    bench.baseline.fails = True
    await ask(bench, liquidity_bucket="low")
    bench.baseline.fails = False

    bench.clock.now += 4.9
    resting = await ask(bench, liquidity_bucket="low")
    bench.clock.now += 0.2
    rested = await ask(bench, liquidity_bucket="low")

    assert "baseline_in_process" in resting.warnings
    assert "baseline_in_process" not in rested.warnings
    assert len(bench.baseline.requests) == 2


@pytest.mark.parametrize(
    ("items", "in_process"),
    [(1, True), (BASELINE_AT_ONCE, True), (BASELINE_AT_ONCE + 1, False)],
)
def test_time_limit_of_the_baseline_service_grows_with_the_items(
    items: int, in_process: bool
) -> None:
    async def takes_30_ms(requests: Sequence[BaselineRequest]) -> Sequence[Bands]:
        await asyncio.sleep(0.03)
        return [make_bands(r.horizon_steps, len(r.levels)) for r in requests]

    bench = Bench(fallback={"baseline_timeout_ms": 20.0})
    bench.baseline.forecast = takes_30_ms  # type: ignore[method-assign]
    failed = [(resolved(), FallbackReason.BREAKER_OPEN)] * items

    forecasts = run_virtual(bench.fallback.many(failed, bench.clock.now + 10.0))

    assert ["baseline_in_process" in f.warnings for f in forecasts] == [in_process] * items


async def test_window_with_a_single_observation_reaches_the_baseline_filled() -> None:
    bench = Bench()
    await bench.ask(y_prob=np.array([0.2, 0.4]), y_ts=np.array([0.0, 1e9]))

    assert np.isfinite(bench.baseline.requests[0].y_prob).all()


# Overload.


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({}, FallbackReason.OVERLOADED), ({"liquidity_bucket": "low"}, FallbackReason.LOW_LIQUIDITY)],
)
async def test_under_overload_the_baseline_is_computed_in_process(
    changes: dict[str, Any], reason: FallbackReason
) -> None:
    bench = Bench()

    forecast = await bench.ask(shed=True, **changes)

    assert forecast.fallback_reason is reason
    assert "baseline_in_process" in forecast.warnings
    assert bench.model.requests == []
    assert bench.baseline.requests == []


async def test_under_overload_cached_answers_are_used_first_fresh_then_expired() -> None:
    bench = Bench()
    await bench.ask()
    fresh = await bench.ask(shed=True)
    bench.clock.now += 100.0
    stale = await bench.ask(shed=True)

    assert fresh.fallback_reason is None
    assert stale.fallback_reason is FallbackReason.STALE_IF_ERROR
    assert stale.warnings == ("fallback_overloaded",)


async def test_time_to_close_is_part_of_the_routed_segment(ask: Ask) -> None:
    bench = routing_bench(pins={f"{SEGMENT}|closes=hour": "baseline", "all": "model"})
    reasons = [
        (await ask(bench, closes_at=AS_OF.timestamp() + 60 * minutes)).fallback_reason
        for minutes in (59, 61)
    ]

    assert reasons == ["pinned_to_baseline", None]
