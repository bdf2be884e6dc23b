import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from serve_app.remote.reconnecting_actor import ReconnectingActor


class Actors:
    """A fake lookup: each call returns a new actor, or raises ``missing``."""

    def __init__(self, *troubles: Exception | asyncio.Event) -> None:
        self.troubles = list(troubles)
        self.lookups = 0
        self.missing: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def look_up(self) -> Any:
        self.lookups += 1
        self.gate.wait(10)
        if self.missing:
            raise self.missing
        return SimpleNamespace(ask=SimpleNamespace(remote=self._ask))

    async def _ask(self, *args: object) -> tuple[object, ...]:
        trouble = self.troubles.pop(0) if self.troubles else None
        if isinstance(trouble, asyncio.Event):
            await trouble.wait()
        elif trouble:
            raise trouble
        return args


async def test_actor_is_looked_up_once_for_successful_calls() -> None:
    actors = Actors()
    actor = ReconnectingActor(actors.look_up)

    assert [await actor.call("ask", 1, "a"), await actor.call("ask")] == [(1, "a"), ()]
    assert actors.lookups == 1


async def test_actor_is_looked_up_again_after_a_failed_call() -> None:
    actors = Actors(RuntimeError("died"))
    actor = ReconnectingActor(actors.look_up)

    with pytest.raises(RuntimeError, match="died"):
        await actor.call("ask")

    assert await actor.call("ask", 2) == (2,)
    assert actors.lookups == 2


async def test_missing_actor_is_looked_up_again() -> None:
    actors = Actors()
    actors.missing = ValueError("no such actor")
    actor = ReconnectingActor(actors.look_up)

    with pytest.raises(ValueError, match="no such actor"):
        await actor.call("ask")
    actors.missing = None

    assert await actor.call("ask", 3) == (3,)


async def test_cancelled_calls_share_one_lookup_with_the_next_call() -> None:
    actors = Actors()
    actors.gate.clear()
    actor = ReconnectingActor(actors.look_up)

    for _ in range(5):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(actor.call("ask"), 0.01)
    actors.gate.set()

    assert await actor.call("ask", 4) == (4,)
    assert actors.lookups == 1


async def test_actor_is_looked_up_again_after_a_cancelled_call() -> None:
    actors = Actors(asyncio.Event())  # never set
    actor = ReconnectingActor(actors.look_up)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(actor.call("ask"), 0.01)

    assert await actor.call("ask", 5) == (5,)
    assert actors.lookups == 2


async def test_late_failure_does_not_discard_a_newer_handle() -> None:
    actors = Actors(RuntimeError("first"), RuntimeError("second"))
    actor = ReconnectingActor(actors.look_up)

    results = await asyncio.gather(actor.call("ask"), actor.call("ask"), return_exceptions=True)

    assert [str(result) for result in results] == ["first", "second"]
    await actor.call("ask")
    assert actors.lookups == 2
