"""Overload in virtual time: which items are refused first, and the latency of the others."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field

import pytest

from runner.errors import QueueFullError, TooLateError
from runner.types import Priority
from tests.unit.runner.batching.dispatcher.dispatching import BULK, URGENT, Harness, Runtime

SETTINGS = {
    "max_batch_size": 128,
    "max_call_s": 0.6,
    "prompt_call_s": 0.1,
    "max_wait_s": 1.2,
    "max_queued_items": 4096,
}
SECONDS = 8
WARM_UP_S = 1.0  # before the first answers the call time is unknown
BATCH_ITEMS = 32


@dataclass
class Outcomes:
    """The items of one class: seconds of the answered ones, counts of the others."""

    answered_s: list[float] = field(default_factory=list)
    within_load: int = 0
    refused: int = 0
    late: int = 0

    @property
    def served_share(self) -> float:
        """Of all items: those answered while the load lasted."""
        return self.within_load / (len(self.answered_s) + self.refused + self.late)

    @property
    def p95_s(self) -> float:
        return sorted(self.answered_s)[int(0.95 * len(self.answered_s))]


async def offered(runtime: Runtime, interactive: float, bulk: float) -> dict[Priority, Outcomes]:
    """Offers so many items of each class a second, the bulk ones in batches."""
    harness, seen = Harness(runtime, **SETTINGS), {URGENT: Outcomes(), BULK: Outcomes()}

    async def one(priority: Priority, within_s: float) -> None:
        began = harness.now()
        counts = seen[priority] if began >= WARM_UP_S else Outcomes()
        try:
            await harness.put(priority.name, within_s=within_s, priority=priority)
        except QueueFullError:
            counts.refused += 1
        except TooLateError:
            counts.late += 1
        else:
            counts.answered_s.append(harness.now() - began)
            counts.within_load += harness.now() <= SECONDS

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
    ("speed", "interactive", "bulk"),
    # short calls serve 70, 70 and 700 a second
    [((0.04, 0.008), 145, 60), ((0.04, 0.008), 105, 45), ((0.037, 0.0009), 1400, 600)],
)
async def test_admitted_items_are_in_time_and_bulk_is_refused_first(
    speed: tuple[float, float], interactive: float, bulk: float
):
    runtime = Runtime(*speed)
    seen = await offered(runtime, interactive, bulk)

    mixed = [call for call in runtime.calls[10:] if len(set(call.items)) > 1]
    assert not [call for call in mixed if call.started_at < SECONDS]
    assert seen[URGENT].p95_s <= 0.25
    assert seen[URGENT].late == 0
    assert seen[URGENT].refused > 0
    assert 0.3 < seen[URGENT].served_share < 0.9
    assert seen[BULK].served_share < 0.7 * seen[URGENT].served_share


async def test_a_large_batch_delays_no_single_request_by_more_than_a_call():
    """Small calls tell little about large ones, so calls of the batch begin small and grow."""
    runtime = Runtime(fixed_s=0.04, per_item_s=0.008)
    harness = Harness(runtime, **SETTINGS)
    waits = []

    async def single(number: int) -> None:
        await asyncio.sleep(number / 20)
        began = harness.now()
        await harness.put("x", within_s=1.4)
        waits.append(harness.now() - began)

    async def batch() -> None:
        await asyncio.sleep(2.0)
        await asyncio.gather(*harness.put_all("y" * 400, within_s=10, priority=BULK))

    await asyncio.gather(batch(), *map(single, range(20 * SECONDS)))

    assert max(waits) <= 0.25
    assert max(call.ended_at for call in runtime.calls if "y" in call.items) < 9.5


async def test_the_call_of_a_single_request_that_has_waited_long_is_short():
    runtime = Runtime(fixed_s=0.04, per_item_s=0.008)
    harness = Harness(runtime, **SETTINGS)
    for size in (1, 4, 16, 64):  # the growth of calls is tested elsewhere
        await asyncio.gather(*harness.put_all("y" * size, priority=BULK))

    batch = harness.put_all("y" * 200, priority=BULK)
    await asyncio.sleep(0.01)  # the first call of the batch takes 0.6 s
    await harness.put("x")

    assert [len(call.items) for call in runtime.calls[4:6]] == [70, 7]
    await asyncio.gather(*batch)


async def test_below_the_limit_all_items_are_answered():
    seen = await offered(Runtime(fixed_s=0.037, per_item_s=0.0009), 300, 130)

    assert [(one.refused, one.late) for one in seen.values()] == [(0, 0), (0, 0)]
    assert seen[URGENT].p95_s <= 0.2


async def test_repeated_bursts_that_drain_are_answered():
    harness = Harness(Runtime(fixed_s=0.037, per_item_s=0.0009), **SETTINGS)
    await harness.put("t")  # from which the time of a call is known

    for second in range(2, 12):
        await asyncio.sleep(second - harness.now())
        await asyncio.gather(*harness.put_all("x" * 400, within_s=1.4))

    assert harness.now() == pytest.approx(11.6, abs=0.2)


async def test_a_runtime_without_cost_per_item_gets_large_calls():
    runtime = Runtime(fixed_s=0.15)
    seen = await offered(runtime, 300, 100)

    assert seen[URGENT].refused < 0.02 * 300 * SECONDS
    assert max(len(call.items) for call in runtime.calls) > 50


async def test_a_runtime_with_slow_calls_gets_more_than_one_item_a_call():
    """Every call takes longer than ``max_call_s``, for any number of items."""
    runtime = Runtime(fixed_s=0.65)
    seen = await offered(runtime, 20, 0.001)

    assert (seen[URGENT].refused, seen[URGENT].late) == (0, 0)
    assert seen[URGENT].p95_s <= 1.4
