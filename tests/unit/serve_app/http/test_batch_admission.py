import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from runner.errors import OverloadedError
from serve_app.http.batch_admission import AT_ONCE_BYTES, BatchQueue
from tests.support.virtual_time import run_virtual

HALF = AT_ONCE_BYTES // 2


async def batch(
    queue: BatchQueue, name: str, seen: list[str], size: int = HALF, wait_s: float = 10.0
) -> None:
    """Works for a second once it is in."""
    try:
        async with queue.place(size, wait_s, hold_s=60.0):
            seen.append(f"{name} in at {asyncio.get_running_loop().time():g}")
            await asyncio.sleep(1.0)
    except OverloadedError as refused:
        seen.append(f"{name} refused, {refused.retry_after_s:g}")


def run(main: Callable[[BatchQueue, list[str]], Coroutine[Any, Any, object]]) -> list[str]:
    seen: list[str] = []
    run_virtual(main(BatchQueue(), seen))
    return seen


def test_batches_get_in_as_many_as_fit_at_once_and_in_order():
    async def main(queue: BatchQueue, seen: list[str]) -> None:
        await asyncio.gather(*(batch(queue, str(n), seen) for n in range(5)))

    assert run(main) == ["0 in at 0", "1 in at 0", "2 in at 1", "3 in at 1", "4 in at 2"]


def test_a_small_batch_does_not_pass_a_large_one_that_came_before():
    async def main(queue: BatchQueue, seen: list[str]) -> None:
        sizes = {"a": HALF, "large": AT_ONCE_BYTES, "small": 10}
        await asyncio.gather(*(batch(queue, name, seen, size) for name, size in sizes.items()))

    assert run(main) == ["a in at 0", "large in at 1", "small in at 2"]


def test_batch_that_waited_too_long_is_refused_and_the_next_is_admitted():
    async def main(queue: BatchQueue, seen: list[str]) -> None:
        waits = {"a": 9.0, "impatient": 0.5, "next": 9.0}
        everybody = (
            batch(queue, name, seen, AT_ONCE_BYTES, wait_s) for name, wait_s in waits.items()
        )
        await asyncio.gather(*everybody)

    assert run(main) == ["a in at 0", "impatient refused, 5", "next in at 1"]


@pytest.mark.parametrize("left_after_s", [0.5, 1.0])
def test_cancelled_batch_frees_its_place(left_after_s: float):
    async def main(queue: BatchQueue, seen: list[str]) -> None:
        inside = asyncio.ensure_future(batch(queue, "a", seen, AT_ONCE_BYTES))
        leaving = asyncio.ensure_future(batch(queue, "leaves", seen, AT_ONCE_BYTES))
        after = asyncio.ensure_future(batch(queue, "next", seen, AT_ONCE_BYTES))
        await asyncio.sleep(left_after_s)  # at 1.0 a place has just come free for it
        leaving.cancel()
        await asyncio.gather(inside, after)

    assert run(main)[-1].startswith("next in at 1")


def test_slow_reader_loses_its_place_after_the_hold_time():
    async def slow(queue: BatchQueue) -> None:
        async with queue.place(AT_ONCE_BYTES, 1.0, hold_s=3.0):
            await asyncio.sleep(100.0)

    async def main(queue: BatchQueue, seen: list[str]) -> None:
        reading = asyncio.ensure_future(slow(queue))
        await asyncio.sleep(0)
        await batch(queue, "next", seen, AT_ONCE_BYTES)
        await batch(queue, "a", seen, AT_ONCE_BYTES)
        await reading
        await batch(queue, "last", seen, AT_ONCE_BYTES)

    assert run(main) == ["next in at 3", "a in at 4", "last in at 100"]
