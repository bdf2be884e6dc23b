"""An asyncio loop whose clock jumps to the next timer when nothing is left to do: no test sleeps.

A loop with nothing to do and no timer would wait for ever; that is an error here, so a test of
"never hangs" fails at once.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class NothingLeftToWaitForError(RuntimeError):
    """Every task waits for something that no timer and no other task will bring."""

    def __str__(self) -> str:
        return "nothing left to wait for"


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """``time()`` starts at 0 and only moves while nothing can run."""

    def __init__(self) -> None:
        self._now = 0.0
        self.timers_set = 0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._now

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self.timers_set += 1
        return super().call_at(when, callback, *args, context=context)

    def jump(self, seconds: float) -> None:
        self._now += seconds


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise NothingLeftToWaitForError
        self._loop.jump(timeout)
        return []


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """The result of ``main`` on a fresh loop that starts at time 0."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs an async test on a loop of its own with virtual time."""

    @functools.wraps(test)
    def run(*args: Any, **fixtures: Any) -> None:
        run_virtual(test(*args, **fixtures))

    return run
