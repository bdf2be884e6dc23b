import asyncio
import contextvars
from functools import partial

from serve_app.remote.cluster_status import CachedCall
from tests.support.fakes import FakeClock


class Source:
    """Gives 1, 2, 3...; can fail or wait; its answers are kept for 2 s."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.clock = FakeClock()
        self.cached = CachedCall(self.ask, self.clock, limit_s=0.01)

    async def ask(self) -> int:
        self.asked += 1
        await self.gate.wait()
        if self.fails:
            raise OSError
        return self.asked


async def test_answer_is_shared_and_kept_for_a_moment_and_then_fetched_again() -> None:
    source = Source()
    together = await asyncio.gather(*(source.cached() for _ in range(5)))
    later = await source.cached()
    source.clock.now += 2.0

    assert [*together, later, await source.cached()] == [1] * 6 + [2]


async def test_failed_call_is_not_repeated_at_once() -> None:
    source = Source()
    source.fails = True
    failed = [await source.cached(), await source.cached()]
    source.clock.now += 2.0
    source.fails = False

    assert [*failed, await source.cached()] == [None, None, 2]


async def test_call_is_not_made_in_the_context_of_the_caller() -> None:
    """Serve cancels the calls of a request's context when its caller leaves: others wait for it."""
    request = contextvars.ContextVar("request", default="none")
    seen = CachedCall(partial(asyncio.to_thread, request.get), FakeClock())
    request.set("of this caller")

    assert await seen() == "none"


async def test_call_that_hangs_is_not_waited_for_and_not_repeated() -> None:
    source = Source()
    source.gate.clear()
    hanging = [await source.cached(), await source.cached()]
    source.clock.now += 10.0
    hanging.append(await source.cached())
    source.gate.set()
    await asyncio.sleep(0)  # not all_tasks: the test runner has one, which ends after this test
    await asyncio.sleep(0)

    assert (hanging, source.asked) == ([None] * 3, 1)
    assert await source.cached() == 2
