import asyncio

import pytest

from serve_app.remote.cluster_status import CachedCall
from tests.support.fakes import FakeClock


class Source:
    """Gives 1, 2, 3...; can fail or wait."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> int:
        self.asked += 1
        await self.gate.wait()
        if self.fails:
            raise OSError
        return self.asked


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def recent(source: Source, clock: FakeClock) -> CachedCall[int]:
    return CachedCall(source, clock, kept_s=2.0, limit_s=0.01)


async def test_answer_is_kept_for_a_moment_and_then_fetched_again(
    recent: CachedCall[int], clock: FakeClock
) -> None:
    first = [await recent(), await recent()]
    clock.now += 2.0

    assert [*first, await recent()] == [1, 1, 2]


async def test_callers_at_the_same_time_share_one_call(
    recent: CachedCall[int], source: Source
) -> None:
    answers = await asyncio.gather(*(recent() for _ in range(5)))

    assert (answers, source.asked) == ([1] * 5, 1)


async def test_failed_call_is_not_repeated_at_once(
    recent: CachedCall[int], source: Source, clock: FakeClock
) -> None:
    source.fails = True
    failed = [await recent(), await recent()]
    clock.now += 2.0
    source.fails = False

    assert [*failed, await recent()] == [None, None, 2]


async def test_call_that_hangs_is_not_waited_for_and_not_repeated(
    recent: CachedCall[int], source: Source, clock: FakeClock
) -> None:
    source.gate.clear()
    hanging = [await recent(), await recent()]
    clock.now += 10.0
    hanging.append(await recent())
    source.gate.set()
    await asyncio.sleep(0)  # not all_tasks: the test runner has one, which ends after this test
    await asyncio.sleep(0)

    assert (hanging, source.asked) == ([None] * 3, 1)
    assert await recent() == 2
