import asyncio
from collections.abc import Callable
from functools import partial

from runner.pacer import SLICE_S, Pacer
from tests.support.virtual_time import VirtualTimeLoop, run_virtual

PIECE_S = 0.001


def work(loop: asyncio.AbstractEventLoop, seconds: float = PIECE_S) -> None:
    """Takes time on the loop's clock without giving the loop back."""
    assert isinstance(loop, VirtualTimeLoop)
    loop.jump(seconds)


async def batch(pacer: Pacer, pieces: int, done: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    async for _ in pacer.over(range(pieces)):
        work(loop)
        done()


async def longest_wait(batches: int, *, others_wait: bool) -> tuple[float, float]:
    """The longest time between two turns of another task, and the duration of all work."""
    loop = asyncio.get_running_loop()
    pacer = Pacer(loop.time, lambda: others_wait)
    waits: list[float] = []

    async def other_task() -> None:
        while True:
            before = loop.time()
            await asyncio.sleep(0)
            waits.append(loop.time() - before)

    other = asyncio.ensure_future(other_task())
    if others_wait:
        other.cancel()  # no other task is busy: the clock may jump over the pauses
    await asyncio.gather(*(batch(pacer, 30, int) for _ in range(batches)))
    other.cancel()
    return max(waits, default=0.0), loop.time()


def test_other_tasks_wait_for_one_slice_and_its_last_piece_at_most():
    longest, took = run_virtual(longest_wait(10, others_wait=False))

    assert longest <= SLICE_S + 1.5 * PIECE_S
    assert round(took / PIECE_S) == 300  # and no time is given away


def test_while_single_requests_wait_they_get_as_much_of_the_loop_as_batches():
    _, took = run_virtual(longest_wait(4, others_wait=True))

    assert 1.8 <= took / (4 * 30 * PIECE_S) <= 2.3


def test_cancelled_batches_do_not_delay_the_next_one():
    async def main() -> float:
        loop = asyncio.get_running_loop()
        pacer = Pacer(loop.time, lambda: True)
        cancelled = [asyncio.ensure_future(batch(pacer, 1000, int)) for _ in range(50)]
        await asyncio.sleep(0.01)
        for task in cancelled:
            task.cancel()
        began = loop.time()
        await batch(pacer, 3, int)
        return loop.time() - began

    assert run_virtual(main()) <= 5 * SLICE_S


def test_batches_take_turns():
    order: list[str] = []

    async def main() -> None:
        pacer = Pacer(asyncio.get_running_loop().time, lambda: False)
        await asyncio.gather(*(batch(pacer, 9, partial(order.append, n)) for n in "ab"))

    run_virtual(main())

    assert {"a", "b"} == set(order[:9])
