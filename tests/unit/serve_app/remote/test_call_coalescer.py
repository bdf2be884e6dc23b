import asyncio
import contextvars
from collections.abc import AsyncIterator, Sequence

import pytest

from serve_app.remote.call_coalescer import CallCoalescer, UnansweredError
from tests.support.virtual_time import run_virtual

INTERVAL_S = 0.01


class Deployment:
    """Records calls; answers each item with its double after ``takes_s``, one part an item."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s
        self.calls: list[tuple[float, list[int]]] = []
        self.forgotten: list[int] = []
        self.silent_about: set[int] = set()

    async def send(self, items: Sequence[tuple[int, int]]) -> AsyncIterator[list[tuple[int, int]]]:
        self.calls.append((asyncio.get_running_loop().time(), [item for _, item in items]))
        for number, item in items:
            await asyncio.sleep(self.takes_s)
            if item not in self.silent_about:
                yield [(number, 2 * item)]

    async def forget(self, numbers: Sequence[int]) -> None:
        self.forgotten.extend(numbers)


def sharing(deployment: Deployment, most: int = 100) -> CallCoalescer[int, int]:
    return CallCoalescer(deployment.send, deployment.forget, INTERVAL_S, most)


def test_lone_item_leaves_at_once() -> None:
    async def story() -> tuple[int, float]:
        answer = await sharing(deployment).ask("lane", 21)
        return answer, asyncio.get_running_loop().time()

    deployment = Deployment()
    answer, took_s = run_virtual(story())

    assert answer == 42
    assert took_s == 0.0


def test_items_of_one_turn_share_a_call() -> None:
    async def story() -> list[int]:
        shared = sharing(deployment)
        return await asyncio.gather(*(shared.ask("lane", item) for item in range(5)))

    deployment = Deployment()
    answers = run_virtual(story())

    assert answers == [0, 2, 4, 6, 8]
    assert [items for _, items in deployment.calls] == [[0, 1, 2, 3, 4]]


def test_items_within_the_interval_wait_for_the_next_call() -> None:
    async def story() -> None:
        shared = sharing(deployment)
        first = asyncio.create_task(shared.ask("lane", 1))
        await asyncio.sleep(0.002)
        second = asyncio.create_task(shared.ask("lane", 2))
        await asyncio.sleep(0.002)
        await asyncio.gather(first, second, shared.ask("lane", 3))

    deployment = Deployment()
    run_virtual(story())

    assert deployment.calls == [(0.0, [1]), (pytest.approx(INTERVAL_S), [2, 3])]


def test_full_call_leaves_before_its_time() -> None:
    async def story() -> None:
        shared = sharing(deployment, most=2)
        await shared.ask("lane", 1)
        await asyncio.gather(*(shared.ask("lane", item) for item in (2, 3, 4)))

    deployment = Deployment()
    run_virtual(story())

    assert [items for _, items in deployment.calls] == [[1], [2, 3], [4]]
    assert deployment.calls[1][0] == 0.0


def test_lanes_do_not_wait_for_each_other() -> None:
    async def story() -> None:
        shared = sharing(deployment)
        await shared.ask("a", 1)
        await shared.ask("b", 2)

    deployment = Deployment()
    run_virtual(story())

    assert deployment.calls == [(0.0, [1]), (0.0, [2])]


def test_nobody_waits_for_who_travels_along() -> None:
    async def finished_at(shared: CallCoalescer[int, int], item: int) -> float:
        await shared.ask("lane", item)
        return asyncio.get_running_loop().time()

    async def story() -> list[float]:
        shared = sharing(Deployment(takes_s=1.0))
        return await asyncio.gather(*(finished_at(shared, item) for item in (1, 2, 3)))

    assert run_virtual(story()) == [1.0, 2.0, 3.0]


def test_who_leaves_before_the_call_is_not_sent() -> None:
    async def story() -> None:
        shared = sharing(deployment)
        await shared.ask("lane", 1)
        leaver = asyncio.create_task(shared.ask("lane", 2))
        stayer = asyncio.create_task(shared.ask("lane", 3))
        await asyncio.sleep(0)
        leaver.cancel()
        await stayer

    deployment = Deployment()
    run_virtual(story())

    assert [items for _, items in deployment.calls] == [[1], [3]]
    assert deployment.forgotten == []


def test_call_that_everybody_left_is_not_made() -> None:
    async def story() -> None:
        shared = sharing(deployment)
        leaver = asyncio.create_task(shared.ask("lane", 2))
        await asyncio.sleep(0)
        leaver.cancel()
        await asyncio.sleep(INTERVAL_S)

    deployment = Deployment()
    run_virtual(story())

    assert deployment.calls == []


def test_who_leaves_under_way_is_forgotten_at_the_other_end() -> None:
    async def story() -> int:
        shared = sharing(deployment)
        leavers = [asyncio.create_task(shared.ask("lane", item)) for item in (1, 2)]
        stayer = asyncio.create_task(shared.ask("lane", 3))
        await asyncio.sleep(0.5)
        for leaver in leavers:
            leaver.cancel()
        return await stayer

    deployment = Deployment(takes_s=1.0)
    answer = run_virtual(story())

    assert answer == 6
    assert deployment.forgotten == [0, 1]


def test_call_does_not_run_in_the_context_of_a_request() -> None:
    asker: contextvars.ContextVar[int] = contextvars.ContextVar("asker", default=0)
    seen: list[int] = []

    async def send(items: Sequence[tuple[int, int]]) -> AsyncIterator[list[tuple[int, int]]]:
        seen.append(asker.get())
        yield list(items)

    async def ask(shared: CallCoalescer[int, int], item: int) -> int:
        asker.set(item)
        return await shared.ask("lane", item)

    async def story() -> None:
        shared: CallCoalescer[int, int] = CallCoalescer(send, Deployment().forget, INTERVAL_S, 2)
        await asyncio.gather(*(ask(shared, item) for item in (1, 2, 3)))

    run_virtual(story())

    assert seen == [0, 0]


def test_failed_call_is_everybodys_error() -> None:
    async def send(_: Sequence[tuple[int, int]]) -> AsyncIterator[list[tuple[int, int]]]:
        yield []
        raise ConnectionError("gone")

    async def story() -> list[int | BaseException]:
        shared: CallCoalescer[int, int] = CallCoalescer(send, Deployment().forget, INTERVAL_S, 10)
        asked = (shared.ask("lane", item) for item in (1, 2))
        return await asyncio.gather(*asked, return_exceptions=True)

    assert [type(e) for e in run_virtual(story())] == [ConnectionError, ConnectionError]


def test_item_without_an_answer_is_an_error_not_a_hang() -> None:
    async def story() -> list[int | BaseException]:
        shared = sharing(deployment)
        asked = (shared.ask("lane", item) for item in (1, 2))
        return await asyncio.gather(*asked, return_exceptions=True)

    deployment = Deployment()
    deployment.silent_about = {2}
    first, second = run_virtual(story())

    assert first == 2
    assert isinstance(second, UnansweredError)
