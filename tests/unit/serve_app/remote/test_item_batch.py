import asyncio

from serve_app.remote.call_coalescer import ItemBatch, ItemTasks
from tests.support.virtual_time import run_virtual


class Work:
    """Each item takes as many seconds as it says, and answers with its tenfold."""

    def __init__(self) -> None:
        self.finished: list[int] = []

    async def __call__(self, item: int) -> int:
        await asyncio.sleep(item)
        self.finished.append(item)
        return 10 * item


async def collect(desk: ItemTasks[int, int], group: ItemBatch[int]) -> list[list[tuple[int, int]]]:
    (begun,) = desk.take([group])
    return [sorted(part) async for part in desk.parts(begun)]


def test_answers_come_as_they_are_ready_and_together_when_ready_together() -> None:
    group = ItemBatch("ingress", [(7, 2), (8, 1), (9, 2)])

    parts = run_virtual(collect(ItemTasks(Work()), group))

    assert parts == [[(8, 10)], [(7, 20), (9, 20)]]


def test_groups_taken_together_keep_their_own_answers() -> None:
    async def story() -> list[list[tuple[int, int]]]:
        desk: ItemTasks[int, int] = ItemTasks(Work())
        begun = desk.take([ItemBatch("a", [(1, 1)]), ItemBatch("b", [(1, 3)])])
        return [[item async for part in desk.parts(b) for item in part] for b in begun]

    assert run_virtual(story()) == [[(1, 10)], [(1, 30)]]


def test_forgotten_item_is_dropped_and_the_others_are_answered() -> None:
    async def story() -> list[list[tuple[int, int]]]:
        desk = ItemTasks(work)
        answers = asyncio.create_task(collect(desk, ItemBatch("a", [(1, 5), (2, 6)])))
        await asyncio.sleep(1)
        desk.forget("a", [1, 99])
        desk.forget("b", [2])
        return await answers

    work = Work()
    parts = run_virtual(story())

    assert [item for part in parts for item in part] == [(2, 60)]
    assert work.finished == [6]


def test_leaving_early_drops_what_is_not_done() -> None:
    async def story() -> None:
        desk = ItemTasks(work)
        (begun,) = desk.take([ItemBatch("a", [(1, 1), (2, 5)])])
        parts = desk.parts(begun)
        await anext(parts)
        await parts.aclose()
        await asyncio.sleep(10)

    work = Work()
    run_virtual(story())

    assert work.finished == [1]


def test_desk_counts_the_items_in_work() -> None:
    async def story() -> list[int]:
        desk = ItemTasks(Work())
        collecting = asyncio.create_task(collect(desk, ItemBatch("a", [(1, 5), (2, 2)])))
        await asyncio.sleep(1)
        counts = [len(desk)]
        await asyncio.sleep(2)
        counts.append(len(desk))
        await collecting
        return [*counts, len(desk)]

    assert run_virtual(story()) == [2, 1, 0]
