"""One replica's breakers: it decides on its own copy and synchronises it with the actor.

No call waits for the actor, except to ask for a probe. Without the actor the replica decides alone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from runner.breaker.shared import SyncReply, SyncRequest
from runner.breaker.state_machine import (
    Breakers,
    BreakerSnapshots,
    CallResult,
    Permit,
    Refusal,
    Report,
)
from runner.config.sections import CircuitBreakerSection
from runner.errors import BreakerOpenError
from runner.types import BreakerCommand, BreakerState

_LOG = logging.getLogger(__name__)


class BreakerClient:
    """Permits runtime calls and records their results, in one Runner replica.

    ``call_actor`` calls a method of the actor by name, and raises while the actor cannot be
    reached; ``clock`` gives monotonic seconds.
    """

    def __init__(
        self,
        copy: Breakers,
        call_actor: Callable[..., Awaitable[Any]],
        settings: CircuitBreakerSection,
        clock: Callable[[], float],
    ) -> None:
        self._copy = copy
        self._call_actor = call_actor
        self._settings = settings
        self._clock = clock
        self._actor: str | None = None  # id of the actor instance that the copy comes from
        self._unsent: list[Report] = []
        self._lost = False
        self._loop: asyncio.Task[None] | None = None

    async def acquire(self, name: str) -> Permit:
        """A permit for one call; raises BreakerOpenError if the model may not be called now."""
        answer = None
        if self._may_probe(name) and not self._lost:
            answer = await self._exchange(probe=name)
        if answer is None:
            answer = self._copy.acquire(name, self._clock())
        if isinstance(answer, Refusal):
            raise BreakerOpenError(answer.retry_in_s)
        return answer

    def record(self, name: str, permit: Permit, result: CallResult, duration_s: float) -> None:
        """Records the one result of a permit: here at once, elsewhere with the next exchange."""
        report = Report(name, permit, result, duration_s)
        self._copy.record(report, self._clock())
        self._unsent.append(report)

    def state(self, name: str) -> BreakerState:
        """The state of a breaker in this replica's copy."""
        return self._copy.state(name, self._clock())

    def retry_in_s(self, name: str) -> float:
        """Seconds until the next permit is possible; 0.0 if it is possible now."""
        return self._copy.retry_in_s(name, self._clock())

    def known(self) -> BreakerSnapshots:
        """Every breaker in this replica's copy."""
        return self._copy.snapshot(self._clock())

    async def command(self, names: Sequence[str], command: BreakerCommand) -> BreakerState:
        """Sends an operator's command to all replicas; returns the new state.

        Raises what the call to the actor raises: then no replica has received it.
        """
        await self._exchange()  # a new actor needs earlier commands first, to order this one
        state: BreakerState = await self._call_actor("command", names, command)
        await self._exchange()
        return state

    def start(self) -> None:
        """Starts the regular exchange with the actor, once; needs a running event loop."""
        if self._loop is None:
            self._loop = asyncio.create_task(self._sync_forever(), name="breaker-sync")

    async def _sync_forever(self) -> None:
        """Exchanges at fixed intervals, however long an answer takes: replicas agree within 1 s."""
        while True:
            next_at = self._clock() + self._settings.sync_interval_s
            await self._exchange()
            await asyncio.sleep(max(0.0, next_at - self._clock()))

    def _may_probe(self, name: str) -> bool:
        now = self._clock()
        half_open = self._copy.state(name, now) is BreakerState.HALF_OPEN
        return half_open and self._copy.retry_in_s(name, now) == 0

    async def _exchange(self, probe: str | None = None) -> Permit | Refusal | None:
        """One exchange; returns the actor's answer about a probe, None if the actor is lost."""
        request = SyncRequest(self._actor, tuple(self._unsent), probe)
        self._unsent.clear()
        try:
            reply = await self._ask(request)
            if reply.breakers is None:
                copy = self._copy.snapshot(self._clock())
                self._unsent.clear()  # the copy contains them
                reply = await self._ask(replace(request, reports=(), copy=copy))
        except Exception as exc:  # noqa: BLE001 - no error of the actor may stop the replica
            self._note(lost=True, why=type(exc).__name__)
            self._actor = None
            return None
        self._note(lost=False)
        self._actor, now = reply.actor, self._clock()
        self._copy.replace_all(reply.breakers or {}, now)
        for report in self._unsent:  # the actor does not have these results yet
            self._copy.record(report, now)
        return reply.answer

    async def _ask(self, request: SyncRequest) -> SyncReply:
        async with asyncio.timeout(self._settings.shared_timeout_s):
            reply: SyncReply = await self._call_actor("sync", request)
            return reply

    def _note(self, *, lost: bool, why: str = "") -> None:
        if lost and not self._lost:
            _LOG.warning("Lost the shared breaker (%s); this replica decides alone.", why)
        if self._lost and not lost:
            _LOG.warning("The shared breaker is back.")
        self._lost = lost
