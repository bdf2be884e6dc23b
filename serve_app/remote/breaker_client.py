"""The breakers as one replica uses them: it decides on its copy and keeps in step with the actor.

No call waits for the actor, except to ask for a probe. Without the actor the replica goes on alone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from runner.breaker.shared import Breakers, BreakerSnapshots, Report, SyncReply, SyncRequest
from runner.breaker.state_machine import CallResult, Permit, Refusal
from runner.config.sections import CircuitBreakerSection
from runner.errors import BreakerOpenError
from runner.types import BreakerCommand, BreakerState

_LOG = logging.getLogger(__name__)


class BreakerClient:
    """What the Runner asks before a call, and tells after it.

    Args:
        copy: this replica's breakers.
        call_actor: calls a method of the actor by name; raises while it cannot be reached.
        settings: how often to exchange, and how long to wait for the actor.
        clock: monotonic seconds.
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
        self._actor: str | None = None  # the life of the actor that the copy comes from
        self._unsent: list[Report] = []
        self._lost = False
        self._loop: asyncio.Task[None] | None = None

    async def acquire(self, name: str) -> Permit:
        """A permit for one call.

        Raises:
            BreakerOpenError: the model may not be called now.
        """
        answer = None
        if self._may_probe(name) and not self._lost:
            answer = await self._exchange(probe=name)
        if answer is None:
            answer = self._copy.acquire(name, self._clock())
        if isinstance(answer, Refusal):
            raise BreakerOpenError(answer.retry_in_s)
        return answer

    def record(self, name: str, permit: Permit, result: CallResult, duration_s: float) -> None:
        """How the call of a permit ended: counted here at once, elsewhere with the next exchange.

        Every permit needs exactly one result.
        """
        report = Report(name, permit, result, duration_s)
        self._copy.record(report, self._clock())
        self._unsent.append(report)

    def state(self, name: str) -> BreakerState:
        """The state of a breaker as far as this replica knows."""
        return self._copy.state(name, self._clock())

    def retry_in_s(self, name: str) -> float:
        """How long asking is pointless, 0.0 if it is not."""
        return self._copy.retry_in_s(name, self._clock())

    def known(self) -> BreakerSnapshots:
        """Every breaker as far as this replica knows."""
        return self._copy.snapshot(self._clock())

    async def command(self, names: Sequence[str], command: BreakerCommand) -> BreakerState:
        """Pass an operator's command on to all replicas; the state it leads to.

        Raises whatever the way to the actor does: then no replica was told.
        """
        await self._exchange()  # a new actor must know of earlier commands to count this one
        state: BreakerState = await self._call_actor("command", names, command)
        await self._exchange()
        return state

    def start(self) -> None:
        """Keep in step with the actor from now on; needs a running event loop."""
        if self._loop is None:
            self._loop = asyncio.create_task(self._sync_forever(), name="breaker-sync")

    async def _sync_forever(self) -> None:
        """Begin at fixed intervals, however long an answer takes: agreement in 1 s rests on it."""
        while True:
            next_at = self._clock() + self._settings.sync_interval_s
            await self._exchange()
            await asyncio.sleep(max(0.0, next_at - self._clock()))

    def _may_probe(self, name: str) -> bool:
        now = self._clock()
        half_open = self._copy.state(name, now) is BreakerState.HALF_OPEN
        return half_open and self._copy.retry_in_s(name, now) == 0

    async def _exchange(self, probe: str | None = None) -> Permit | Refusal | None:
        """One exchange with the actor; its answer about a probe, None also when it is lost."""
        request = SyncRequest(self._actor, tuple(self._unsent), probe)
        self._unsent.clear()
        try:
            reply = await self._ask(request)
            if reply.breakers is None:
                copy = self._copy.snapshot(self._clock())
                self._unsent.clear()  # the copy has them
                reply = await self._ask(replace(request, reports=(), copy=copy))
        except Exception as exc:  # noqa: BLE001 - whatever the actor raises, the replica goes on
            self._note(lost=True, why=type(exc).__name__)
            self._actor = None
            return None
        self._note(lost=False)
        self._take_over(reply)
        return reply.answer

    async def _ask(self, request: SyncRequest) -> SyncReply:
        async with asyncio.timeout(self._settings.shared_timeout_s):
            reply: SyncReply = await self._call_actor("sync", request)
            return reply

    def _take_over(self, reply: SyncReply) -> None:
        """The copy becomes what the actor said, plus the results that it has not been told."""
        self._actor = reply.actor
        now = self._clock()
        self._copy.adopt(reply.breakers or {}, now)
        for report in self._unsent:
            self._copy.record(report, now)

    def _note(self, *, lost: bool, why: str = "") -> None:
        if lost and not self._lost:
            _LOG.warning("Lost the shared breaker (%s); this replica decides alone.", why)
        if self._lost and not lost:
            _LOG.warning("The shared breaker is back.")
        self._lost = lost
