import asyncio
from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import pytest

from runner.errors import UnknownModelError
from runner.forecast.answers import AnswerStore, Forecast, ModelOutcome
from runner.forecast.bulk import KNOWN_AT_ONCE, MAX_CHUNK_BYTES, BulkForecaster, cut, size_bytes
from runner.forecast.forecaster import Fallback
from runner.forecast.resolved_request import ResolvedRequest, resolve_request
from runner.pacer import SLICE_S, Pacer
from runner.types import (
    BreakerState,
    FallbackReason,
    ForecastRequest,
    ModelFailure,
    ModelRequest,
    Priority,
    Source,
)
from tests.support.builders import make_answer, make_config, make_registry, make_request, walk
from tests.support.fakes import FakeBaselinePort, FakeClock

REGISTRY = make_registry()
PAUSE_EVERY = 32  # looks of the pacer at its clock make a slice


class FakeBulkModel:
    def __init__(self) -> None:
        self.calls: list[Sequence[ModelRequest]] = []
        self.failing: FallbackReason | None = None
        self.hangs = False
        self.cancelled = 0

    async def forecast_many(self, requests: Sequence[ModelRequest]) -> Sequence[ModelOutcome]:
        self.calls.append(requests)
        try:
            if self.hangs:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failing is not None:
            return [ModelFailure(self.failing, BreakerState.CLOSED) for _ in requests]
        return [make_answer() for _ in requests]


class Bench:
    def __init__(self, **sections: object) -> None:
        self.clock = FakeClock()
        self.model = FakeBulkModel()
        self.baseline = FakeBaselinePort()
        config = make_config(**sections)  # type: ignore[arg-type]
        self.answers = AnswerStore(config, self.clock, lambda: 0.0)
        fallback = Fallback(config, self.answers, self.baseline, self.clock)
        looks = count()
        pacer = Pacer(lambda: next(looks) * SLICE_S / PAUSE_EVERY, lambda: False)
        shared = (config, REGISTRY, self.answers, self.model, fallback, self.clock)
        self.bulk = BulkForecaster(*shared, pacer)

    async def ask(
        self, *changes: dict[str, object], budget_s: float = 5.0, answering_s: float = 0.0
    ) -> list[object]:
        requests = list(enumerate(make_request(**change) for change in changes))
        deadline = self.clock.now + budget_s
        parts = [part async for part in self.bulk.forecast(requests, deadline, answering_s)]
        answers = {n: a for part in parts for n, a in part}
        return [answers[n] for n in range(len(requests))]


def markets(count: int) -> list[dict[str, object]]:
    return [{"y_prob": walk(40, seed)} for seed in range(count)]


def sources(answers: list[object]) -> list[Source]:
    assert all(isinstance(a, Forecast) for a in answers)
    return [a.source for a in answers if isinstance(a, Forecast)]


async def test_unique_markets_travel_in_chunks_of_a_batch_as_bulk() -> None:
    bench = Bench(batching={"max_batch_size": 40})
    answers = await bench.ask(*markets(100))

    assert sources(answers) == [Source.MODEL] * 100
    assert sorted(len(c) for c in bench.model.calls) == [20, 40, 40]
    assert {r.priority for c in bench.model.calls for r in c} == {Priority.BULK}


async def test_equal_requests_are_computed_once_and_answered_each() -> None:
    bench = Bench()
    answers = await bench.ask({"market_id": "a"}, {"market_id": "b"}, {"market_id": "a"})

    assert [len(c) for c in bench.model.calls] == [1]
    assert [a.plan.request.market_id for a in answers if isinstance(a, Forecast)] == ["a", "b", "a"]


async def test_cached_answers_are_not_computed_again() -> None:
    bench = Bench()
    await bench.ask(*markets(3))
    again = await bench.ask(*markets(4))

    assert [len(c) for c in bench.model.calls] == [3, 1]
    assert [a.cache_age_s is None for a in again if isinstance(a, Forecast)] == [
        False,
        False,
        False,
        True,
    ]


async def test_request_that_may_not_be_served_is_an_error_for_itself_alone() -> None:
    answers = await Bench().ask({}, {"model_name": "nobody"}, {"y_prob": walk(40, 3)})

    assert isinstance(answers[1], UnknownModelError)
    assert sources([answers[0], answers[2]]) == [Source.MODEL] * 2


async def test_unsuited_series_are_computed_together_by_the_baseline() -> None:
    bench = Bench()
    answers = await bench.ask({"liquidity_bucket": "low"}, {"y_prob": walk(5)}, {})

    assert sources(answers) == [Source.BASELINE, Source.BASELINE, Source.MODEL]
    assert len(bench.baseline.requests) == 2


async def test_failures_of_the_model_go_to_the_baseline_with_their_reason() -> None:
    bench = Bench()
    bench.model.failing = FallbackReason.RUNTIME_TIMEOUT
    answers = await bench.ask(*markets(3))

    assert sources(answers) == [Source.BASELINE] * 3
    assert {a.fallback_reason for a in answers if isinstance(a, Forecast)} == {
        FallbackReason.RUNTIME_TIMEOUT
    }


async def test_old_answers_stand_in_for_a_model_that_fails() -> None:
    bench = Bench()
    await bench.ask(*markets(2))
    bench.clock.now += 100.0
    bench.model.failing = FallbackReason.RUNTIME_ERROR
    answers = await bench.ask(*markets(3))

    assert sources(answers) == [Source.MODEL, Source.MODEL, Source.BASELINE]


async def test_model_that_does_not_answer_in_time_is_not_waited_for() -> None:
    bench = Bench()
    bench.model.hangs = True
    answers = await bench.ask(*markets(3), budget_s=0.13)

    assert sources(answers) == [Source.BASELINE] * 3
    assert {a.fallback_reason for a in answers if isinstance(a, Forecast)} == {
        FallbackReason.DEADLINE_EXCEEDED
    }


async def test_no_time_at_all_is_a_baseline_in_process() -> None:
    answers = await Bench().ask(*markets(2), budget_s=0.0)

    assert sources(answers) == [Source.BASELINE] * 2


async def test_open_breaker_heard_of_costs_no_hop() -> None:
    bench = Bench()
    opened = ModelFailure(FallbackReason.BREAKER_OPEN, BreakerState.OPEN, retry_in_s=9.0)
    bench.answers.learn(plan(), opened)
    answers = await bench.ask(*markets(3))

    assert {a.fallback_reason for a in answers if isinstance(a, Forecast)} == {
        FallbackReason.BREAKER_OPEN
    }
    assert bench.model.calls == []


async def test_caller_that_left_takes_the_work_along() -> None:
    bench = Bench()
    bench.model.hangs = True
    asking = asyncio.ensure_future(bench.ask(*markets(3)))
    for _ in range(5):
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    for _ in range(5):
        await asyncio.sleep(0)

    assert bench.model.cancelled == 1


async def test_long_lists_let_others_run_in_between() -> None:
    bench, turns = Bench(), 0
    requests = list(enumerate(make_request(**m) for m in markets(PAUSE_EVERY * 4)))

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.ensure_future(others())
    await anext(aiter(bench.bulk.forecast(requests, bench.clock.now + 5)))
    other.cancel()

    assert turns >= 4


async def test_empty_list_is_answered_with_nothing() -> None:
    assert await Bench().ask() == []


def plan(**changes: object) -> ResolvedRequest:
    return resolve_request(make_request(**changes), REGISTRY, make_config())


async def test_calls_hold_one_key_each() -> None:
    bench = Bench()
    changes = [{"y_prob": walk(40, i), "horizon_steps": 3 + i % 2} for i in range(6)]
    answers = await bench.ask(*changes)

    assert sources(answers) == [Source.MODEL] * 6
    assert [len({r.key for r in call}) for call in bench.model.calls] == [1, 1]
    assert sorted(len(call) for call in bench.model.calls) == [3, 3]


async def test_first_full_chunk_leaves_while_the_rest_is_still_read() -> None:
    bench = Bench(batching={"max_batch_size": PAUSE_EVERY})
    calls_seen: list[int] = []

    def reading() -> Iterator[tuple[int, ForecastRequest]]:
        for number, change in enumerate(markets(3 * PAUSE_EVERY)):
            calls_seen.append(len(bench.model.calls))
            yield number, make_request(**change)

    parts = bench.bulk.forecast(reading(), bench.clock.now + 5)
    answered = [n async for part in parts for n, _ in part]

    assert len(answered) == 3 * PAUSE_EVERY
    assert calls_seen[-1] > calls_seen[0] == 0


async def test_twin_of_what_has_failed_already_is_answered_too() -> None:
    bench = Bench(batching={"max_batch_size": 1})
    bench.model.failing = FallbackReason.RUNTIME_ERROR
    twin = markets(1)
    others: list[dict[str, object]] = [{"y_prob": walk(40, 99 + i)} for i in range(2 * PAUSE_EVERY)]
    answers = await bench.ask(*twin, *others, *twin)

    assert sources(answers) == [Source.BASELINE] * (2 * PAUSE_EVERY + 2)


def test_parts_are_bounded_in_bytes_both_ways() -> None:
    wide = plan(
        y_prob=walk(288),
        horizon_steps=512,
        levels=tuple((i + 1) / 22 for i in range(21)),
        x_past={f"v{i}": walk(288) for i in range(16)},
        x_future={f"v{i}": np.zeros(512) for i in range(16)},
    )

    parts = list(cut([wide] * 100, lambda p: p, most=1000))

    assert len(parts) > 1
    assert all(sum(map(size_bytes, part)) <= MAX_CHUNK_BYTES for part in parts)
    assert sum(map(len, parts)) == 100


async def test_the_model_is_left_in_time_to_answer_everybody_without_it() -> None:
    bench = Bench()
    bench.model.hangs = True
    began = asyncio.get_running_loop().time()
    answers = await bench.ask(*markets(3), budget_s=0.5, answering_s=0.45)

    assert sources(answers) == [Source.BASELINE] * 3
    assert bench.model.calls[0][0].budget_s == pytest.approx(0.05)
    assert asyncio.get_running_loop().time() - began < 0.4


async def test_a_batch_with_much_time_keeps_more_of_it_for_its_baselines() -> None:
    bench = Bench()
    await bench.ask({}, budget_s=30.0, answering_s=0.3)
    await bench.ask({"y_prob": walk(40, 1)}, budget_s=2.0, answering_s=0.3)

    assert [call[0].budget_s for call in bench.model.calls] == pytest.approx([28.8, 1.5])


async def test_baselines_are_made_here_where_the_service_would_take_the_time_of_others() -> None:
    bench = Bench()
    bench.model.failing = FallbackReason.RUNTIME_TIMEOUT
    answers = await bench.ask(*markets(3), budget_s=0.2, answering_s=0.19)

    assert sources(answers) == [Source.BASELINE] * 3
    assert bench.baseline.requests == []
    assert all("baseline_in_process" in a.warnings for a in answers if isinstance(a, Forecast))


async def test_kept_answers_leave_before_the_rest_is_read() -> None:
    bench = Bench()
    await bench.ask(*markets(KNOWN_AT_ONCE))
    read: list[int] = []

    def reading() -> Iterator[tuple[int, ForecastRequest]]:
        for number, change in enumerate(markets(KNOWN_AT_ONCE + 9)):
            read.append(number)
            yield number, make_request(**change)

    parts = bench.bulk.forecast(reading(), bench.clock.now + 5)
    seen = [(len(part), len(read)) async for part in parts]

    assert seen[0] == (KNOWN_AT_ONCE, KNOWN_AT_ONCE)
    assert sum(answered for answered, _ in seen) == KNOWN_AT_ONCE + 9
