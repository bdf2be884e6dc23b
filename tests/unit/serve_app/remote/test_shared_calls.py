"""Items share calls: at the sender (`CallCoalescer`), and at the receiver (`ItemTasks`)."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from serve_app.remote.shared_calls import (
    QUIET_S,
    QUIET_TURNS,
    CallCoalescer,
    ItemBatch,
    ItemTasks,
    UnansweredError,
)
from tests.support.virtual_time import VirtualTimeLoop, run_virtual

INTERVAL_S = 0.01
LONG_TURN_S = 0.4 * QUIET_S
ASKER: contextvars.ContextVar[int] = contextvars.ContextVar("asker", default=0)


async def turns(count: int) -> None:
    """Waits for so many turns of the event loop."""
    for _ in range(count):
        await asyncio.sleep(0)


class Deployment:
    """Records calls; answers each item with its double after ``takes_s``, one part an item."""

    def __init__(self, takes_s: float = 0.0, most: int = 100) -> None:
        self.takes_s = takes_s
        self.calls: list[tuple[float, list[int]]] = []
        self.askers: list[int] = []
        self.forgotten: list[int] = []
        self.unanswered: set[int] = set()
        self.shared = CallCoalescer(self.send, self.forget, INTERVAL_S, most)

    async def send(self, items: Sequence[tuple[int, int]]) -> AsyncIterator[list[tuple[int, int]]]:
        self.calls.append((asyncio.get_running_loop().time(), [item for _, item in items]))
        self.askers.append(ASKER.get())
        for number, item in items:
            await asyncio.sleep(self.takes_s)
            if item not in self.unanswered:
                yield [(number, 2 * item)]

    async def forget(self, numbers: Sequence[int]) -> None:
        self.forgotten.extend(numbers)

    async def ask(self, item: int, at_s: float = 0.0, key: str = "model") -> tuple[int, float]:
        """The answer and its time."""
        await asyncio.sleep(at_s)
        ASKER.set(item)
        return await self.shared.ask(key, item), asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    ("takes_s", "most", "asked", "calls"),
    [
        (1.0, 100, [(21, 0.0)], [(0.0, [21])]),
        (1.0, 100, [(i, 0.0) for i in range(5)], [(0.0, [0, 1, 2, 3, 4])]),  # in one turn
        (1.0, 100, [(1, 0.0), (2, 0.002), (3, 0.004)], [(0.0, [1]), (0.01, [2, 3])]),
        (1.0, 2, [(1, 0.0), (2, 0.002), (3, 0.003)], [(0.0, [1]), (0.003, [2, 3])]),  # full
        (0.003, 100, [(1, 0.0), (2, 0.002), (3, 0.004)], [(0.0, [1]), (0.003, [2]), (0.006, [3])]),
        (0.013, 100, [(1, 0.0), (2, 0.002), (3, 0.012)], [(0.0, [1]), (0.01, [2]), (0.02, [3])]),
    ],
)
def test_items_share_a_call_while_another_is_under_way(
    takes_s: float, most: int, asked: list[tuple[int, float]], calls: list[tuple[float, list[int]]]
) -> None:
    async def main() -> list[tuple[int, float]]:
        return await asyncio.gather(*(deployment.ask(item, at_s) for item, at_s in asked))

    deployment = Deployment(takes_s, most)
    answers = run_virtual(main())

    assert [answer for answer, _ in answers] == [2 * item for item, _ in asked]
    assert [items for _, items in deployment.calls] == [items for _, items in calls]
    assert [at_s for at_s, _ in deployment.calls] == pytest.approx([at_s for at_s, _ in calls])
    assert set(deployment.askers) == {0}  # not in the context of a request


@pytest.mark.parametrize(("between", "calls"), [(QUIET_TURNS, 1), (QUIET_TURNS + 2, 2)])
def test_items_share_a_call_until_the_loop_is_quiet(between: int, calls: int) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            for item in range(3):
                tasks.create_task(deployment.ask(item))
                await turns(between)

    deployment = Deployment(takes_s=1.0)
    run_virtual(main())

    assert len(deployment.calls) == calls


def test_items_on_a_busy_loop_do_not_wait_for_all_turns() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        async with asyncio.TaskGroup() as tasks:
            for item in range(10):
                tasks.create_task(deployment.ask(item))
                await asyncio.sleep(0)
                loop.jump(LONG_TURN_S)

    deployment = Deployment(takes_s=1.0)
    run_virtual(main())

    assert deployment.calls[0][1] == [0, 1, 2]


def test_the_end_of_an_earlier_call_sends_no_item_alone() -> None:
    async def main() -> None:
        await asyncio.gather(deployment.ask(2, at_s=1.0), deployment.ask(1), third())

    async def third() -> None:
        await asyncio.sleep(1.0)
        await turns(QUIET_TURNS // 2)  # meanwhile the call of the first item ends
        await deployment.ask(3)

    deployment = Deployment(takes_s=1.0)
    run_virtual(main())

    assert [items for _, items in deployment.calls] == [[1], [2, 3]]


def test_full_call_leaves_before_the_loop_is_quiet() -> None:
    async def main() -> None:
        await asyncio.gather(*map(deployment.ask, range(3)))

    deployment = Deployment(takes_s=1.0, most=2)
    run_virtual(main())

    assert deployment.calls == [(0.0, [0, 1]), (INTERVAL_S, [2])]


def test_no_item_waits_after_a_call_that_was_never_made() -> None:
    async def main() -> tuple[int, float]:
        abandoned = asyncio.create_task(deployment.ask(1))
        await turns(QUIET_TURNS // 2)
        abandoned.cancel()
        return await deployment.ask(2, at_s=0.5 * INTERVAL_S)

    deployment = Deployment()

    assert run_virtual(main()) == (4, 0.5 * INTERVAL_S)


def test_keys_do_not_wait_for_each_other() -> None:
    async def main() -> None:
        await asyncio.gather(deployment.ask(1, key="a"), deployment.ask(2, key="b"))

    deployment = Deployment(takes_s=1.0)
    run_virtual(main())

    assert deployment.calls == [(0.0, [1]), (0.0, [2])]


def test_no_item_waits_for_another_one_in_its_call() -> None:
    async def main() -> list[tuple[int, float]]:
        deployment = Deployment(takes_s=1.0)
        return await asyncio.gather(*(deployment.ask(item) for item in (1, 2, 3)))

    assert run_virtual(main()) == [(2, 1.0), (4, 2.0), (6, 3.0)]


@pytest.mark.parametrize(
    ("asked", "calls"), [([2, 3], [[3]]), ([2], [])], ids=["with others", "alone"]
)
def test_item_abandoned_before_its_call_is_not_sent(
    asked: list[int], calls: list[list[int]]
) -> None:
    async def main() -> None:
        tasks = [asyncio.create_task(deployment.ask(item)) for item in asked]
        await turns(QUIET_TURNS // 2)
        tasks[0].cancel()
        await asyncio.sleep(9.0)

    deployment = Deployment(takes_s=1.0)
    run_virtual(main())

    assert [items for _, items in deployment.calls] == calls
    assert deployment.forgotten == []


def test_items_abandoned_during_their_call_are_forgotten_at_the_receiver() -> None:
    async def main() -> tuple[int, float]:
        left = [asyncio.create_task(deployment.ask(item)) for item in (1, 2)]
        kept = asyncio.create_task(deployment.ask(3))
        await asyncio.sleep(0.5)
        for task in left:
            task.cancel()
        return await kept

    deployment = Deployment(takes_s=1.0)

    assert run_virtual(main()) == (6, 3.0)
    assert deployment.forgotten == [0, 1]


def test_item_without_an_answer_gets_an_error() -> None:
    async def main() -> list[object]:
        return await asyncio.gather(*map(deployment.ask, (1, 2)), return_exceptions=True)

    deployment = Deployment()
    deployment.unanswered = {2}
    answers = run_virtual(main())

    assert answers[0] == (2, 0.0)
    assert isinstance(answers[1], UnansweredError)


class Tasks(ItemTasks[int, int]):
    """Each item takes as many seconds as it says, and answers with its tenfold."""

    def __init__(self) -> None:
        super().__init__(self.answer)
        self.finished: list[int] = []

    async def answer(self, item: int) -> int:
        await asyncio.sleep(item)
        self.finished.append(item)
        return 10 * item

    async def collect(self, sender: str, *items: tuple[int, int]) -> list[list[tuple[int, int]]]:
        begun = self.take(ItemBatch(sender, items))
        return [sorted(part) async for part in self.parts(begun)]


def test_each_sender_gets_its_answers_and_those_ready_together_in_one_part() -> None:
    async def main() -> None:
        tasks = Tasks()
        batches = tasks.collect("a", (7, 2), (8, 1), (9, 2)), tasks.collect("b", (7, 3))
        one, other = await asyncio.gather(*batches)

        assert one == [[(8, 10)], [(7, 20), (9, 20)]]
        assert other == [[(7, 30)]]

    run_virtual(main())


def test_forgotten_item_is_cancelled_and_running_ones_are_counted() -> None:
    async def main() -> list[list[tuple[int, int]]]:
        answers = asyncio.create_task(tasks.collect("a", (1, 5), (2, 6)))
        await asyncio.sleep(1)
        counts = [len(tasks)]
        tasks.forget("a", [1, 99])
        tasks.forget("b", [2])
        await asyncio.sleep(1)
        parts = await answers
        assert [*counts, len(tasks)] == [2, 0]
        return parts

    tasks = Tasks()

    assert [item for part in run_virtual(main()) for item in part] == [(2, 60)]
    assert tasks.finished == [6]


def test_item_whose_task_raises_costs_no_other_its_answer(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    impossible: Any = "no number of seconds"
    parts = run_virtual(tasks.collect("a", (1, 2), (2, impossible), (3, 2)))

    assert parts == [[(1, 20), (3, 20)]]
    assert len(tasks) == 0
    assert "TypeError" in caplog.text


def test_item_that_is_sent_again_is_the_one_that_is_counted_and_forgotten() -> None:
    async def main() -> None:
        first, again = (tasks.take(ItemBatch("a", [(1, seconds)])) for seconds in (1, 5))
        await asyncio.wait(first)
        assert len(tasks) == 1
        tasks.forget("a", [1])
        await asyncio.wait(again)
        assert all(task.cancelled() for task in again)

    tasks = Tasks()
    run_virtual(main())

    assert len(tasks) == 0


def test_closing_the_answers_cancels_what_is_not_done() -> None:
    async def main() -> None:
        parts = tasks.parts(tasks.take(ItemBatch("a", [(1, 1), (2, 5)])))
        await anext(parts)
        await parts.aclose()
        await asyncio.sleep(10)

    tasks = Tasks()
    run_virtual(main())

    assert tasks.finished == [1]
