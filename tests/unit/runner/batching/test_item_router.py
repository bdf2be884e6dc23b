import asyncio
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from runner.batching.batch_call import BatchItem, ItemResult, batch_item
from runner.batching.dispatcher import BatchResult, Dispatcher
from runner.batching.item_router import ItemRouter, ReplicaRank, Runtimes, RuntimeTarget
from runner.errors import (
    BadOutputError,
    BreakerOpenError,
    ModelError,
    QueueFullError,
    RuntimeRejectedError,
    RuntimeTimeoutError,
    RuntimeTooLargeError,
    RuntimeUnreachableError,
    TooLateError,
)
from runner.types import (
    BreakerState,
    FallbackReason,
    ModelAnswer,
    ModelFailure,
)
from tests.support.builders import make_bands, make_config, make_model_request
from tests.support.fakes import FakeBreakers, FakeClock

SAID = (("runtime_warning",), ("volume",))  # by the runtime of each series


class Bench:
    """The service over a real dispatcher; each runtime's calls answer at once by default."""

    def __init__(self, runtimes: int = 1, rank: int = 0, replicas: int = 1) -> None:
        self.clock = FakeClock()
        self.breakers = FakeBreakers()
        self.batches: list[Sequence[BatchItem]] = []
        self.runtimes: list[int] = []  # that were called, in order
        self.errors: dict[int, Exception] = {}  # by runtime
        self.abandoned: asyncio.Future[None] | None = None  # of the first runtime
        self.asked = 0
        self.holds: dict[int, asyncio.Event] = {}  # runtimes whose calls wait
        config = make_config()
        dispatcher: Dispatcher[RuntimeTarget, BatchItem, ItemResult] = Dispatcher(
            self._call,
            queue_of=lambda route: route.queue_name,
            batch_limit=lambda route: 16,
            max_batch_bytes=config.tollama.max_request_bytes,
            settings=config.batching,
            lease_s=1.0,
            clock=self.clock,
        )
        self.service = ItemRouter(
            dispatcher,
            Runtimes(runtimes, lambda: ReplicaRank(rank, replicas)),
            self.breakers,
            config.cache,
            self.clock,
            lambda: 0.0,
        )

    async def _call(
        self, route: RuntimeTarget, items: Sequence[BatchItem]
    ) -> BatchResult[ItemResult]:
        self.batches.append(items)
        self.runtimes.append(route.runtime)
        if route.runtime in self.holds:
            await self.holds[route.runtime].wait()
        error = self.errors.get(route.runtime)
        if error is not None:
            raise error
        if self.abandoned is not None and route.runtime == 0:
            return BatchResult([RuntimeTimeoutError()] * len(items), self.abandoned)
        now = self.clock.now
        return BatchResult(
            [ItemResult(make_bands(), len(items), now, now + 0.04, *SAID) for _ in items]
        )

    async def ask(self, count: int = 1) -> list[ModelAnswer | ModelFailure]:
        """The answers of as many different items at once."""
        self.asked += count
        keys = [f"{self.asked}-{i}".encode() for i in range(count)]
        asked = (self.service.forecast(make_model_request(cache_key=key)) for key in keys)
        return list(await asyncio.gather(*asked))


async def test_items_that_arrive_together_share_a_call() -> None:
    bench = Bench()
    requests = [make_model_request(cache_key=bytes([i])) for i in range(5)]
    answers = await asyncio.gather(*(bench.service.forecast(r) for r in requests))

    assert [len(b) for b in bench.batches] == [5]
    assert bench.service.kept_answers == 5
    assert all(isinstance(a, ModelAnswer) and a.batch_size == 5 for a in answers)
    assert isinstance(answers[0], ModelAnswer)
    assert answers[0].runtime_ms == pytest.approx(40.0)
    assert answers[0].age_s is None
    assert (answers[0].notices, answers[0].covariates_ignored) == SAID


async def test_equal_request_of_another_replica_is_answered_from_the_cache_with_its_age() -> None:
    bench = Bench()
    await bench.service.forecast(make_model_request())
    bench.clock.now += 7.0
    again = await bench.service.forecast(make_model_request())

    assert isinstance(again, ModelAnswer)
    assert again.age_s == 7.0
    assert len(bench.batches) == 1


async def test_item_without_time_left_is_too_late() -> None:
    outcome = await Bench().service.forecast(make_model_request(budget_s=0.0))

    assert outcome == ModelFailure(FallbackReason.DEADLINE_EXCEEDED, BreakerState.CLOSED, 0.0)


async def test_late_results_are_cached() -> None:
    bench = Bench()
    now = bench.clock.now
    late: list[ItemResult | Exception] = [
        ItemResult(make_bands(), 2, now - 2.0, now),
        RuntimeTimeoutError(),
    ]
    requests = [make_model_request(cache_key=b"a"), make_model_request(cache_key=b"b")]
    bench.service.keep_late([batch_item(request) for request in requests], late)
    answers = [await bench.service.forecast(r) for r in requests]

    assert isinstance(answers[0], ModelAnswer)
    assert answers[0].age_s == 0.0
    assert [len(b) for b in bench.batches] == [1]


async def test_series_that_may_not_be_sent_is_rejected_before_it_waits_for_a_call() -> None:
    bench = Bench(runtimes=2)
    outcome = await bench.service.forecast(make_model_request(x_past={"v": np.full(32, np.inf)}))

    assert isinstance(outcome, ModelFailure)
    assert outcome.reason is FallbackReason.RUNTIME_REJECTED
    assert not bench.batches


async def test_items_behind_an_abandoned_call_fail_at_once() -> None:
    bench = Bench()
    bench.abandoned = asyncio.get_running_loop().create_future()
    first = await bench.service.forecast(make_model_request(cache_key=b"a"))
    second = await bench.service.forecast(make_model_request(cache_key=b"b"))
    bench.abandoned.set_result(None)
    bench.abandoned = None
    await asyncio.sleep(0)
    third = await bench.service.forecast(make_model_request(cache_key=b"c"))

    timed_out = ModelFailure(FallbackReason.RUNTIME_TIMEOUT, BreakerState.CLOSED)
    assert (first, second) == (timed_out, timed_out)
    assert len(bench.batches) == 2
    assert isinstance(third, ModelAnswer)


async def quiet() -> None:
    """Lets all ready tasks run."""
    for _ in range(20):
        await asyncio.sleep(0)


def served(outcomes: list[ModelAnswer | ModelFailure]) -> int:
    return sum(isinstance(outcome, ModelAnswer) for outcome in outcomes)


async def test_runtime_with_fewer_items_under_way_is_chosen() -> None:
    bench = Bench(runtimes=2)
    bench.holds[0] = asyncio.Event()
    held = asyncio.ensure_future(bench.ask(2))
    await quiet()
    for _ in range(4):
        await bench.ask()
    bench.holds[0].set()

    assert bench.runtimes[2:] == [1, 1, 1, 1]
    assert served(await held) == 2


async def test_runtime_with_an_open_breaker_is_not_called() -> None:
    bench = Bench(runtimes=3, rank=0, replicas=3)
    bench.breakers.waits["fracast-0@1"] = 30.0
    for _ in range(4):
        await bench.ask()

    assert sorted(bench.runtimes) == [1, 1, 2, 2]


async def test_cached_answer_has_the_state_of_the_breaker_that_allows_calls() -> None:
    bench = Bench(runtimes=2)
    await bench.service.forecast(make_model_request())
    bench.breakers.waits["fracast-0@1"] = 30.0
    again = await bench.service.forecast(make_model_request())

    assert again.breaker_state is BreakerState.CLOSED


async def test_answer_is_breaker_open_only_when_every_breaker_is_open() -> None:
    bench = Bench(runtimes=2)  # an open breaker is not even tried
    bench.breakers.waits = {"fracast-0@1": 30.0, "fracast-0@2": 20.0}
    shut = await bench.ask()
    bench.breakers.waits = {"fracast-0@1": 30.0}
    bench.errors[1] = BadOutputError()
    half = await bench.ask()

    assert shut == [ModelFailure(FallbackReason.BREAKER_OPEN, BreakerState.OPEN, 20.0)]
    assert half == [ModelFailure(FallbackReason.BAD_OUTPUT, BreakerState.CLOSED, 0.0)]
    assert bench.runtimes == [1]


async def test_item_that_fails_at_all_runtimes_has_the_last_reason() -> None:
    bench = Bench(runtimes=2, rank=1, replicas=2)
    bench.errors = {0: BadOutputError(), 1: RuntimeUnreachableError()}

    assert await bench.ask() == [ModelFailure(FallbackReason.BAD_OUTPUT, BreakerState.CLOSED)]
    assert bench.runtimes == [1, 0]


async def test_queued_and_new_items_go_to_another_runtime_when_one_hangs() -> None:
    bench = Bench(runtimes=2, rank=0, replicas=2)
    bench.abandoned = asyncio.get_running_loop().create_future()
    bench.holds[0] = asyncio.Event()
    first = asyncio.ensure_future(bench.ask(16))
    await quiet()
    queued = asyncio.ensure_future(bench.ask(3))
    await quiet()
    bench.holds[0].set()
    answers = [await first, await queued, await bench.ask()]

    assert [served(outcomes) for outcomes in answers] == [16, 3, 1]
    assert bench.runtimes.count(0) == 1


@pytest.mark.parametrize(
    ("error", "reason", "is_tried_elsewhere"),
    [
        (RuntimeUnreachableError(), FallbackReason.RUNTIME_UNREACHABLE, True),
        (RuntimeTimeoutError(), FallbackReason.RUNTIME_TIMEOUT, True),
        (ModelError(), FallbackReason.RUNTIME_ERROR, True),
        (BreakerOpenError(5.0), FallbackReason.BREAKER_OPEN, True),
        (RuntimeRejectedError(), FallbackReason.RUNTIME_REJECTED, False),  # the series is at fault
        (RuntimeTooLargeError(), FallbackReason.RUNTIME_REJECTED, False),
        (QueueFullError(), FallbackReason.OVERLOADED, False),  # more load elsewhere does not help
        (TooLateError(), FallbackReason.DEADLINE_EXCEEDED, False),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_errors_are_values_and_faults_of_a_runtime_are_tried_at_another(
    error: Exception, reason: FallbackReason, is_tried_elsewhere: bool
) -> None:
    alone, several = Bench(), Bench(runtimes=2, rank=0, replicas=2)
    alone.errors[0] = several.errors[0] = error

    assert await alone.ask() == [ModelFailure(reason, BreakerState.CLOSED, 0.0)]
    assert served(await several.ask()) == is_tried_elsewhere
    assert several.runtimes == ([0, 1] if is_tried_elsewhere else [0])


def make_runtimes(count=2, rank=0, replicas=1):
    return Runtimes(count, lambda: ReplicaRank(rank, replicas))


def chosen_in_turn(runtimes, usable):
    return {runtimes.choose(usable, lambda _: 0) for _ in usable}


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 8])
def test_replicas_are_spread_evenly_and_leave_no_runtime_without_one(count, replicas):
    places = [make_runtimes(count, rank, replicas) for rank in range(replicas)]

    owners = Counter(one for place in places for one in chosen_in_turn(place, range(count)))
    assert set(owners) == set(range(count))
    assert max(owners.values()) - min(owners.values()) <= 1


def test_rank_beyond_the_known_number_of_replicas_still_has_runtimes():
    assert chosen_in_turn(make_runtimes(4, rank=7, replicas=2), range(4)) == {1, 3}


def test_queue_of_a_single_runtime_has_the_name_of_the_model():
    assert make_runtimes(1).queue_names("m") == ("m",)
    assert make_runtimes(2).queue_names("m") == ("m@1", "m@2")


def test_single_runtime_is_chosen_without_the_rank():
    runtimes = Runtimes(1, lambda: pytest.fail("asked"))

    assert runtimes.choose([0], lambda _: 0) == 0
    assert runtimes.choose([], lambda _: 0) is None
    assert make_runtimes(2).choose([], lambda _: 0) is None


def test_own_runtime_is_chosen_before_an_idle_other_one_if_it_is_usable():
    runtimes = make_runtimes(3, rank=1, replicas=3)

    assert runtimes.choose([0, 1, 2], lambda r: 9 * r) == 1
    assert runtimes.choose([0, 2], lambda r: 9 * r) == 0


def test_new_rank_of_a_replica_applies_to_the_next_item():
    ranks = iter([0, 1])
    runtimes = Runtimes(2, lambda: ReplicaRank(next(ranks), 2))

    assert [runtimes.choose([0, 1], lambda _: 0) for _ in range(2)] == [0, 1]
