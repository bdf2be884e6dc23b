"""The actor that holds the shared breakers of one application; every decision is made in runner."""

import random
from collections.abc import Callable, Mapping
from typing import Any

from runner.breaker_board import BoardSnapshot, BreakerBoard, Command
from runner.breaker_sync import SharedBoard, SyncReply, SyncRequest
from runner.sections import CircuitBreakerSection
from runner.types import BreakerState


class BreakerActor:
    """A plain class for Ray to wrap: one instance per application, its state lost with it.

    Args:
        settings: of every breaker; Serve 2.60 makes a dict of a pydantic model on the way here.
        clock: monotonic seconds, of the process the actor lives in.
        wall_clock: POSIX seconds. Read once, and not by the builder: Ray builds a crashed actor
            again from the same arguments, and each life needs a higher epoch than the last.
        jitter: a number in [0, 1).
    """

    def __init__(
        self,
        settings: CircuitBreakerSection | Mapping[str, Any],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        epoch = int(wall_clock() * 1000)
        section = CircuitBreakerSection.model_validate(settings)
        self._clock = clock
        self._shared = SharedBoard(BreakerBoard(section, jitter, f"shared{epoch}"), epoch)

    async def sync(self, request: SyncRequest) -> SyncReply:
        """A replica's results in, the whole board out."""
        return self._shared.sync(request, self._clock())

    async def acquire(self, name: str, request: SyncRequest) -> SyncReply:
        """The same, and a permit or a refusal that holds for all replicas."""
        return self._shared.acquire(name, request, self._clock())

    async def command(self, name: str, command: str) -> BreakerState:
        """``force_open``, ``force_close`` or ``reset`` one breaker: its state after that.

        Replicas hear of it by sync.

        Raises:
            ValueError: there is no such command.
        """
        return self._shared.command(name, Command(command), self._clock())

    async def status(self) -> BoardSnapshot:
        """Every breaker as the whole application sees it, fit for JSON."""
        return self._shared.status(self._clock())
