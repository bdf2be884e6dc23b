"""What the dispatcher keeps, shows and closes: memory, timers, statistics, the end."""

import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest

from runner.batching.batch_result import BatchResult
from runner.batching.dispatcher import QueueStats
from runner.errors import (
    QueueFullError,
    RuntimeFailedError,
)
from tests.support.virtual_time import NothingLeftToWaitForError, VirtualTimeLoop, run_virtual
from tests.unit.runner.batching.dispatcher.dispatching import (
    BULK,
    Desk,
    Lingering,
    Runtime,
    answers,
)


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualTimeLoop}


class Payload:
    """Something a weak reference can point to."""


async def test_answered_items_are_not_kept_in_memory_until_the_lease_ends():
    async def call(key, items):
        return BatchResult([None for _ in items])

    desk = Desk(call)
    item = Payload()
    kept = weakref.ref(item)
    await desk.put(item)

    del item
    await asyncio.sleep(0.01)
    gc.collect()

    assert kept() is None


async def test_a_lone_item_costs_no_timer_but_the_lease_of_its_call():
    async def call(key, items):
        return BatchResult(items)

    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    before = loop.timers_set

    await Desk(call).put("a")
    await asyncio.sleep(0)

    assert loop.timers_set == before + 1


async def test_waiting_items_share_one_timer():
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    desk = Desk(Runtime())
    running = desk.put("a")
    await asyncio.sleep(0.01)
    before = loop.timers_set

    waiting = desk.put_all("b" * 500, within_s=0.1)

    assert loop.timers_set == before + 1
    waiting[-1].cancel()
    await asyncio.sleep(0.08)
    assert loop.timers_set == before + 2
    await answers([running, *waiting])


def test_closing_leaves_no_timer_behind():
    async def close_and_wait_for_ever() -> None:
        desk = Desk(Runtime(), lease_s=5.0)
        desk.put("a")
        await asyncio.sleep(0.01)
        desk.put("b", within_s=2)
        await desk.dispatcher.aclose()
        clock.append(desk.now)
        await asyncio.get_running_loop().create_future()

    clock: list[Callable[[], float]] = []

    with pytest.raises(NothingLeftToWaitForError, match="nothing left"):
        run_virtual(close_and_wait_for_ever())
    assert clock[0]() == pytest.approx(0.1)


async def test_stats_tell_what_waits_what_runs_and_how_large_the_calls_were():
    desk = Desk(Runtime())
    done = desk.put_all("abc")
    await asyncio.sleep(0.01)
    desk.put_all("de")
    desk.put("x", priority=BULK)
    await asyncio.sleep(0.04)

    lane = desk.lane()
    assert (lane.queued, lane.queued_bulk, lane.in_flight) == (3, 1, 1)
    assert lane.oldest_age_s == pytest.approx(0.04)
    assert lane.batch_sizes == (3,)
    await answers(done)
    await asyncio.sleep(1)
    assert desk.lane() == QueueStats(
        queued=0,
        queued_bulk=0,
        oldest_age_s=0.0,
        in_flight=0,
        batch_sizes=(3, 3),
        turned_away=0,
    )


async def test_stats_keep_the_latest_64_sizes():
    desk = Desk(Runtime(), max_batch_size=2)
    await desk.put("a")

    await answers(desk.put_all("b" * 128))

    assert desk.lane().batch_sizes == (2,) * 64


async def test_closing_refuses_what_waits_and_what_comes_and_lets_calls_end():
    desk = Desk(Runtime())
    running = desk.put("a")
    await asyncio.sleep(0.01)
    waiting = desk.put("b", within_s=0.05)

    await desk.dispatcher.aclose()

    assert running.result() == "A"
    assert isinstance(waiting.exception(), QueueFullError)
    assert desk.now() == pytest.approx(0.1)
    with pytest.raises(QueueFullError, match="full"):
        desk.put("c")


async def test_closing_an_idle_dispatcher_returns_at_once():
    desk = Desk(Runtime())
    await desk.dispatcher.aclose()

    assert desk.now() == 0


async def test_closing_does_not_wait_for_a_lingering_call():
    desk = Desk(Lingering(timeout_s=1, busy_s=20))
    await answers([desk.put("a")])

    await desk.dispatcher.aclose()

    assert desk.now() == pytest.approx(1)
    assert desk.lane().in_flight == 0


async def test_closing_waits_for_a_hung_call_no_longer_than_its_lease():
    async def call(key, items):
        await asyncio.get_running_loop().create_future()

    desk = Desk(call, lease_s=5.0)
    hung = desk.put("a")
    await asyncio.sleep(1)

    await desk.dispatcher.aclose()

    assert isinstance(hung.exception(), RuntimeFailedError)
    assert desk.now() == pytest.approx(5)
