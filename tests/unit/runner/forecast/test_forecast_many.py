import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from runner.errors import UnknownModelError
from runner.forecast.answers import Forecast, ModelOutcome
from runner.forecast.batch_pools import MAX_CHUNK_BYTES, size_bytes, split
from runner.forecast.forecaster import CACHED_AT_ONCE
from runner.types import FallbackReason, ForecastRequest, ModelRequest, Priority, Source
from tests.support.builders import make_answer, make_request, walk
from tests.unit.runner.forecast.forecasters import (
    READINGS_PER_SLICE,
    Bench,
    each,
    failure,
    markets,
    resolved,
)


def sources(answers: list[Forecast]) -> list[Source]:
    return [answer.source for answer in answers]


async def test_markets_are_sent_in_chunks_of_a_batch_with_bulk_priority() -> None:
    bench = Bench(batching={"max_batch_size": 40})
    answers = await bench.ask_many(*markets(100))

    assert sources(answers) == [Source.MODEL] * 100
    assert sorted(len(call) for call in bench.model.calls) == [20, 40, 40]
    assert {r.priority for r in bench.model.requests} == {Priority.BULK}


async def test_equal_requests_are_computed_once_and_each_is_answered() -> None:
    bench = Bench()
    answers = await bench.ask_many({"market_id": "a"}, {"market_id": "b"}, {"market_id": "a"})

    assert [len(call) for call in bench.model.calls] == [1]
    assert [a.resolved.request.market_id for a in answers] == ["a", "b", "a"]


async def test_refused_ineligible_expired_and_failed_requests_each_get_their_own_answer() -> None:
    bench = Bench()
    await bench.ask_many(*markets(2))
    bench.clock.now += 100.0
    bench.model.outcome = failure(FallbackReason.RUNTIME_ERROR)
    unknown, low = {"model_name": "unknown"}, {"liquidity_bucket": "low"}
    refused, *answers = await bench.ask_many(unknown, *markets(3), low)

    assert isinstance(refused, UnknownModelError)
    assert sources(answers) == [Source.MODEL] * 2 + [Source.BASELINE] * 2
    assert [a.fallback_reason for a in answers[1:]] == [
        FallbackReason.STALE_IF_ERROR,
        FallbackReason.RUNTIME_ERROR,
        FallbackReason.LOW_LIQUIDITY,
    ]


async def test_long_lists_let_others_run_in_between() -> None:
    bench, turns = Bench(), 0
    requests = list(enumerate(make_request(**m) for m in markets(READINGS_PER_SLICE * 4)))

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.ensure_future(others())
    await anext(aiter(bench.forecaster.forecast_many(each(requests), bench.clock.now + 5)))
    other.cancel()

    assert turns >= 4


async def test_answers_that_are_in_time_are_used_although_others_of_their_chunk_are_late() -> None:
    def answer(request: ModelRequest) -> ModelOutcome:
        if len(bench.model.requests) == 4:
            bench.model.gate = asyncio.Event()  # the next one waits for ever
        return make_answer()

    bench = Bench(answer)
    answers = await bench.ask_many(*markets(6), budget_s=0.3)
    again = await bench.ask_many(*markets(4), budget_s=0.3)

    assert sources(answers) == [Source.MODEL] * 4 + [Source.BASELINE] * 2
    assert {a.fallback_reason for a in answers[4:]} == {FallbackReason.DEADLINE_EXCEEDED}
    assert sources(again) == [Source.MODEL] * 4  # they were cached


async def test_each_call_holds_one_batch_key() -> None:
    bench = Bench()
    changes = [{"y_prob": walk(40, i), "horizon_steps": 3 + i % 2} for i in range(6)]
    await bench.ask_many(*changes)

    assert [len({r.key for r in call}) for call in bench.model.calls] == [1, 1]
    assert [len(call) for call in bench.model.calls] == [3, 3]


async def test_first_full_chunk_is_sent_while_the_rest_is_still_read() -> None:
    bench = Bench(batching={"max_batch_size": READINGS_PER_SLICE})
    calls: list[int] = []

    def reading() -> Iterator[tuple[int, ForecastRequest]]:
        for number, change in enumerate(markets(3 * READINGS_PER_SLICE)):
            calls.append(len(bench.model.calls))
            yield number, make_request(**change)

    parts = bench.forecaster.forecast_many(each(reading()), bench.clock.now + 5)
    answered = [number async for part in parts for number, _ in part]

    assert len(answered) == 3 * READINGS_PER_SLICE
    assert calls[-1] > calls[0] == 0


async def test_request_equal_to_one_that_has_already_failed_is_answered_too() -> None:
    bench = Bench(failure(FallbackReason.RUNTIME_ERROR), batching={"max_batch_size": 1})
    equal, count = markets(1), 2 * READINGS_PER_SLICE
    others = [{"y_prob": walk(40, 99 + i)} for i in range(count)]
    answers = await bench.ask_many(*equal, *others, *equal)

    assert sources(answers) == [Source.BASELINE] * (count + 2)


def test_parts_are_bounded_in_bytes() -> None:
    wide = resolved(
        y_prob=walk(288),
        horizon_steps=512,
        levels=tuple((i + 1) / 22 for i in range(21)),
        x_past={f"v{i}": walk(288) for i in range(16)},
        x_future={f"v{i}": np.zeros(512) for i in range(16)},
    )

    parts = list(split([wide] * 100, lambda request: request, max_items=1000))

    assert len(parts) > 1
    assert all(sum(map(size_bytes, part)) <= MAX_CHUNK_BYTES for part in parts)
    assert sum(map(len, parts)) == 100


async def test_wait_for_the_model_ends_in_time_for_all_baselines() -> None:
    bench = Bench()
    bench.model.gate = asyncio.Event()
    began = asyncio.get_running_loop().time()
    answers = await bench.ask_many(*markets(3), budget_s=0.5, answering_s=0.45)

    assert sources(answers) == [Source.BASELINE] * 3
    assert bench.model.requests[0].budget_s == pytest.approx(0.05)
    assert asyncio.get_running_loop().time() - began < 0.4


async def test_batch_with_a_long_deadline_reserves_more_time_for_its_baselines() -> None:
    bench = Bench()
    await bench.ask_many({}, budget_s=30.0, answering_s=0.3)
    await bench.ask_many({"y_prob": walk(40, 1)}, budget_s=2.0, answering_s=0.3)

    assert [r.budget_s for r in bench.model.requests] == pytest.approx([28.8, 1.5])


async def test_baseline_service_is_not_asked_if_its_timeout_would_make_the_rest_late() -> None:
    bench = Bench(failure(FallbackReason.RUNTIME_TIMEOUT))
    answers = await bench.ask_many(*markets(3), budget_s=0.2, answering_s=0.19)

    assert bench.baseline.requests == []
    assert all("baseline_in_process" in a.warnings for a in answers)


async def test_cached_answers_are_sent_before_the_rest_is_read() -> None:
    bench = Bench()
    await bench.ask_many(*markets(CACHED_AT_ONCE))
    read: list[int] = []

    def reading() -> Iterator[tuple[int, ForecastRequest]]:
        for number, change in enumerate(markets(CACHED_AT_ONCE + 9)):
            read.append(number)
            yield number, make_request(**change)

    parts = bench.forecaster.forecast_many(each(reading()), bench.clock.now + 5)
    sent = [(len(part), len(read)) async for part in parts]

    assert sent[0] == (CACHED_AT_ONCE, CACHED_AT_ONCE)
    assert sum(answered for answered, _ in sent) == CACHED_AT_ONCE + 9
