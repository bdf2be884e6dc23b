import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.exceptions import RayActorError

from runner.baseline.ewma_bands import BaselineRequest
from runner.errors import BaselineUnavailableError
from runner.types import Bands, FallbackReason, ModelFailure, ModelRequest
from serve_app.remote.clients import (
    WARM_UP_LIMIT_S,
    BaselineHandle,
    ReconnectingActor,
    RunnerHandle,
    warm_up,
)
from serve_app.remote.shared_calls import ItemBatch
from tests.support.builders import LOGIT, make_answer, make_bands, make_config, make_model_request
from tests.support.fakes import FakeHandle
from tests.support.virtual_time import run_virtual

BATCHING = make_config().batching


async def answers_all(group: ItemBatch[ModelRequest]) -> AsyncIterator[list[tuple[int, Any]]]:
    for number, request in group.items:
        yield [(number, make_answer(batch_size=int(request.budget_s)))]


async def dies_after_the_first(
    group: ItemBatch[ModelRequest],
) -> AsyncIterator[list[tuple[int, Any]]]:
    yield [(group.items[0][0], make_answer(batch_size=int(group.items[0][1].budget_s)))]
    raise RayActorError


async def fails(_: ItemBatch[ModelRequest]) -> AsyncIterator[list[tuple[int, Any]]]:
    yield []
    raise ValueError("anything")


async def never_answers(_: ItemBatch[ModelRequest]) -> AsyncIterator[list[tuple[int, Any]]]:
    await asyncio.sleep(60)
    yield []


def runner_of(*scripts: Any) -> tuple[RunnerHandle, FakeHandle]:
    handle: Any = FakeHandle(*scripts)
    return RunnerHandle(handle, "ingress#1", BATCHING), handle


def requests(*sizes: int) -> list[ModelRequest]:
    return [make_model_request(budget_s=size) for size in sizes]


async def all_of(runner: RunnerHandle, *sizes: int) -> list[Any]:
    outcomes: dict[int, Any] = {}
    async for ready in runner.forecast_many(requests(*sizes)):
        outcomes.update(ready)
    return [outcomes[index] for index in range(len(sizes))]


def sizes(outcomes: Sequence[Any]) -> list[int]:
    return [outcome.batch_size for outcome in outcomes]


def test_single_forecasts_at_the_same_time_share_a_call() -> None:
    async def main() -> list[Any]:
        return await asyncio.gather(*map(runner.forecast, requests(3, 4)))

    runner, handle = runner_of(answers_all)

    assert sizes(run_virtual(main())) == [3, 4]
    assert [group.sender for group in handle.groups] == ["ingress#1"]


def test_many_keep_their_order() -> None:
    runner, handle = runner_of(answers_all)

    assert sizes(run_virtual(all_of(runner, 5, 6, 7))) == [5, 6, 7]
    assert len(handle.groups) == 1


def test_items_without_an_answer_of_a_dead_runner_are_sent_again() -> None:
    async def main() -> list[Any]:
        return await asyncio.gather(*map(runner.forecast, requests(5, 6)))

    runner, handle = runner_of(dies_after_the_first, answers_all)

    assert sizes(run_virtual(main())) == [5, 6]
    assert [len(group.items) for group in handle.groups] == [2, 1]


@pytest.mark.parametrize("many", [False, True])
def test_every_failure_of_the_runner_is_a_value(many: bool) -> None:
    async def main() -> Any:
        if many:
            return (await all_of(runner, 5, 6))[1]
        return await runner.forecast(requests(1)[0])

    runner, _ = runner_of(*([dies_after_the_first] if many else []), fails)
    outcome = run_virtual(main())

    assert isinstance(outcome, ModelFailure)
    assert outcome.reason is FallbackReason.RUNNER_UNAVAILABLE


def test_items_of_cancelled_callers_are_withdrawn_from_all_runners() -> None:
    async def main() -> None:
        caller = asyncio.create_task(runner.forecast(requests(1)[0]))
        await asyncio.sleep(1)
        caller.cancel()
        await asyncio.sleep(1)

    runner, handle = runner_of(never_answers)
    run_virtual(main())

    assert handle.broadcasts == [("forget", "ingress#1", [0])]


ITEM = BaselineRequest(np.full(40, 0.5), 3, (0.1, 0.5, 0.9), LOGIT)


async def bands_of(items: Sequence[BaselineRequest]) -> Sequence[Bands]:
    return [make_bands(horizon=each.horizon_steps) for each in items]


async def no_bands(_: Sequence[BaselineRequest]) -> Sequence[Bands]:
    raise RayActorError


@pytest.mark.parametrize("asked", [[1, 1, 1], [3]], ids=["single items", "many"])
def test_baselines_at_the_same_time_share_a_call(asked: list[int]) -> None:
    async def main() -> list[Any]:
        return await asyncio.gather(*(baseline.forecast([ITEM] * items) for items in asked))

    handle: Any = FakeHandle(bands_of)
    baseline = BaselineHandle(handle, BATCHING)

    assert [len(bands) for bands in run_virtual(main())] == asked
    assert [len(group) for group in handle.groups] == [3]


@pytest.mark.parametrize("items", [1, 2])
def test_lost_baseline_is_an_error_of_ours(items: int) -> None:
    handle: Any = FakeHandle(no_bands)
    baseline = BaselineHandle(handle, BATCHING)

    with pytest.raises(BaselineUnavailableError, match="baseline"):
        run_virtual(baseline.forecast([ITEM] * items))


def test_warm_up_ends_without_a_runner_and_without_a_baseline() -> None:
    runner, _ = runner_of(never_answers)
    handle: Any = FakeHandle(no_bands)

    async def took_s() -> float:
        await warm_up(runner, BaselineHandle(handle, BATCHING), make_config())
        return asyncio.get_running_loop().time()

    assert run_virtual(took_s()) == WARM_UP_LIMIT_S


class Actors:
    """A fake lookup: each call returns a new actor, or raises ``missing``."""

    def __init__(self, *errors: Exception | asyncio.Event) -> None:
        self.errors = list(errors)
        self.lookups = 0
        self.missing: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def look_up(self) -> Any:
        self.lookups += 1
        self.gate.wait(10)
        if self.missing:
            raise self.missing
        return SimpleNamespace(ask=SimpleNamespace(remote=self._ask))

    async def _ask(self, *args: object) -> tuple[object, ...]:
        error = self.errors.pop(0) if self.errors else None
        if isinstance(error, asyncio.Event):
            await error.wait()
        elif error:
            raise error
        return args


@pytest.mark.parametrize("fault", ["missing", "died", "hangs"])
async def test_actor_is_looked_up_again_after_a_failed_call_only(fault: str) -> None:
    error = ConnectionError("died")
    actors = Actors(asyncio.Event() if fault == "hangs" else error)
    if fault == "missing":
        actors = Actors()
        actors.missing = error
    actor = ReconnectingActor(actors.look_up)

    with pytest.raises(OSError):  # noqa: PT011 - a TimeoutError and a ConnectionError are OSErrors
        await asyncio.wait_for(actor.call("ask"), 0.1)
    actors.missing = None

    assert [await actor.call("ask", 2, "a"), await actor.call("ask")] == [(2, "a"), ()]
    assert actors.lookups == 2


async def test_cancelled_calls_share_one_lookup_with_the_next_call() -> None:
    actors = Actors()
    actors.gate.clear()
    actor = ReconnectingActor(actors.look_up)

    for _ in range(5):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(actor.call("ask"), 0.01)
    actors.gate.set()

    assert await actor.call("ask", 4) == (4,)
    assert actors.lookups == 1


async def test_late_failure_does_not_discard_a_newer_handle() -> None:
    actors = Actors(RuntimeError("first"), RuntimeError("second"))
    actor = ReconnectingActor(actors.look_up)

    results = await asyncio.gather(actor.call("ask"), actor.call("ask"), return_exceptions=True)

    assert [str(result) for result in results] == ["first", "second"]
    await actor.call("ask")
    assert actors.lookups == 2
