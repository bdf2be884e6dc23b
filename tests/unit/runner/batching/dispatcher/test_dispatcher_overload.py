"""More than a runtime can do, in virtual time: who is shed first, and how fast the others are."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field

import pytest

from runner.errors import QueueFullError, TooLateError
from runner.types import Priority
from tests.unit.runner.batching.dispatcher.dispatching import BULK, URGENT, Harness, Runtime

SETTINGS = {
    "max_batch_size": 128,
    "bulk_batch_size": 32,
    "max_call_s": 0.6,
    "prompt_call_s": 0.1,
    "max_wait_s": 1.2,
    "overload_wait_s": 0.2,
    "max_queued_items": 4096,
}
SECONDS = 8
WARM_UP_S = 1.0  # before the first answers nothing is known of the runtime
BATCH_ITEMS = 32


@dataclass
class Seen:
    """What became of the items of one class: seconds of the answered, counts of the others."""

    answered_s: list[float] = field(default_factory=list)
    in_the_load: int = 0
    refused: int = 0
    late: int = 0

    @property
    def served_share(self) -> float:
        """Of all items: those answered while the load lasted."""
        return self.in_the_load / (len(self.answered_s) + self.refused + self.late)

    @property
    def p95_s(self) -> float:
        return sorted(self.answered_s)[int(0.95 * len(self.answered_s))]


async def offered(runtime: Runtime, interactive: float, bulk: float) -> dict[Priority, Seen]:
    """So many items of each class a second, the bulk ones in batches."""
    harness, seen = Harness(runtime, **SETTINGS), {URGENT: Seen(), BULK: Seen()}

    async def one(priority: Priority, within_s: float) -> None:
        began = harness.now()
        mine = seen[priority] if began >= WARM_UP_S else Seen()
        try:
            await harness.put("x", within_s=within_s, priority=priority)
        except QueueFullError:
            mine.refused += 1
        except TooLateError:
            mine.late += 1
        else:
            mine.answered_s.append(harness.now() - began)
            mine.in_the_load += harness.now() <= SECONDS

    async def at(time_s: float, work: Awaitable[None]) -> None:
        await asyncio.sleep(time_s)
        await work

    singles = [at(n / interactive, one(URGENT, 1.4)) for n in range(int(interactive * SECONDS))]
    batched = [
        at(n // BATCH_ITEMS * BATCH_ITEMS / bulk, one(BULK, 10)) for n in range(int(bulk * SECONDS))
    ]
    await asyncio.gather(*singles, *batched)
    return seen


@pytest.mark.parametrize(
    ("runtime", "interactive", "bulk"),
    [
        (Runtime(fixed_s=0.04, per_item_s=0.008), 130, 60),  # 90 a second are its limit
        (Runtime(fixed_s=0.037, per_item_s=0.0009), 1400, 600),  # 700
    ],
)
async def test_who_is_let_in_is_in_time_and_batches_are_shed_first(
    runtime: Runtime, interactive: float, bulk: float
):
    seen = await offered(runtime, interactive, bulk)

    assert seen[URGENT].p95_s <= 0.25
    assert seen[URGENT].late == 0
    assert seen[URGENT].refused > 0
    assert 0.3 < seen[URGENT].served_share < 0.9
    assert seen[BULK].served_share < 0.7 * seen[URGENT].served_share


async def test_below_the_limit_everybody_is_answered_by_the_model():
    seen = await offered(Runtime(fixed_s=0.037, per_item_s=0.0009), 300, 130)

    assert [(one.refused, one.late) for one in seen.values()] == [(0, 0), (0, 0)]
    assert seen[URGENT].p95_s <= 0.2


async def test_bursts_that_drain_are_answered_by_the_model_however_often_they_come():
    harness = Harness(Runtime(fixed_s=0.037, per_item_s=0.0009), **SETTINGS)
    await harness.put("t")  # from which the time of a call is known

    for second in range(2, 12):
        await asyncio.sleep(second - harness.now())
        await asyncio.gather(*harness.put_all("x" * 400, within_s=1.4))

    assert harness.now() == pytest.approx(11.6, abs=0.2)


async def test_a_runtime_whose_calls_cost_the_same_for_any_number_gets_large_calls():
    runtime = Runtime(fixed_s=0.15)
    seen = await offered(runtime, 300, 100)

    assert seen[URGENT].refused < 0.02 * 300 * SECONDS
    assert max(len(call.items) for call in runtime.calls) > 50


async def test_a_runtime_that_is_slow_by_the_call_is_not_fed_one_item_at_a_time():
    """Every call takes longer than ``max_call_s``, for any number of items."""
    runtime = Runtime(fixed_s=0.65)
    seen = await offered(runtime, 20, 0.001)

    assert (seen[URGENT].refused, seen[URGENT].late) == (0, 0)
    assert seen[URGENT].p95_s <= 1.4
