"""The breakers as one replica uses them: decided here, kept in step with the actor behind it.

No call ever waits for the actor, except for leave to probe a model that was down; and whatever
happens to the actor, the replica goes on alone.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from runner.breaker import Outcome, Permit, Refusal
from runner.breaker_board import BoardSnapshot, Command
from runner.breaker_sync import ReplicaBoard, SyncReply, SyncRequest
from runner.errors import BreakerOpenError
from runner.sections import CircuitBreakerSection
from runner.types import BreakerState
from serve_app.known_actor import KnownActor

_LOG = logging.getLogger(__name__)


class SharedBreakerLostError(Exception):
    """The actor did not answer: not there, restarting, too slow, or broken."""


class SharedBreakerPort(Protocol):
    """The way to the actor; every failure is a SharedBreakerLostError."""

    async def sync(self, request: SyncRequest) -> SyncReply:
        """See SharedBoard.sync."""
        ...

    async def acquire(self, name: str, request: SyncRequest) -> SyncReply:
        """See SharedBoard.acquire."""
        ...

    async def command(self, name: str, command: Command) -> BreakerState:
        """See SharedBoard.command."""
        ...


class RayBreakerPort:
    """The actor behind a Ray handle.

    Args:
        get_actor: looks the handle up, blocking; raises while there is no such actor.
    """

    def __init__(self, get_actor: Callable[[], Any]) -> None:
        self._actor = KnownActor(get_actor)

    async def sync(self, request: SyncRequest) -> SyncReply:
        """One round trip to the actor."""
        reply: SyncReply = await self._call("sync", request)
        return reply

    async def acquire(self, name: str, request: SyncRequest) -> SyncReply:
        """One round trip to the actor."""
        reply: SyncReply = await self._call("acquire", name, request)
        return reply

    async def command(self, name: str, command: Command) -> BreakerState:
        """One round trip to the actor."""
        state: BreakerState = await self._call("command", name, command.value)
        return state

    async def _call(self, method: str, *args: object) -> Any:
        try:
            return await self._actor.call(method, *args)
        except Exception as exc:  # whatever Ray or the lookup raises, the replica must go on
            raise SharedBreakerLostError(type(exc).__name__) from exc


class SharedBreakers:
    """What the Runner asks before a call and tells after it.

    Args:
        board: this replica's copy.
        port: the way to the actor.
        settings: how often to sync, and how long to wait for the actor.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        board: ReplicaBoard,
        port: SharedBreakerPort,
        settings: CircuitBreakerSection,
        clock: Callable[[], float],
    ) -> None:
        self._board = board
        self._port = port
        self._settings = settings
        self._clock = clock
        self._lost = False
        self._asking: Counter[str] = Counter()
        self._loop: asyncio.Task[None] | None = None

    async def acquire(self, name: str) -> Permit:
        """Leave for one call.

        Raises:
            BreakerOpenError: the model may not be called now.
        """
        answer = self._board.acquire(name, self._clock())
        if answer is None:
            answer = await self._acquire_probe(name)
        if isinstance(answer, Refusal):
            raise BreakerOpenError(answer.retry_in_s)
        return answer

    def record(self, name: str, permit: Permit, outcome: Outcome, duration_s: float) -> None:
        """How the call of a permit ended; every permit needs exactly one."""
        self._board.record(name, permit, outcome, duration_s, self._clock())

    def state(self, name: str) -> BreakerState:
        """The state of a model's breaker, as far as this replica knows."""
        return self._board.state(name, self._clock())

    def retry_in_s(self, name: str) -> float:
        """How long asking is pointless, 0.0 if it is not."""
        return self._board.retry_in_s(name, self._clock())

    def known(self) -> BoardSnapshot:
        """Every breaker, as far as this replica knows."""
        return self._board.everything(self._clock()).known or {}

    async def command(self, name: str, command: Command) -> BreakerState:
        """Pass an operator's word on to all replicas; the state it leads to.

        Raises:
            SharedBreakerLostError: the actor did not take it.
        """
        state = await self._port.command(name, command)
        await self.sync()
        return state

    def start(self) -> None:
        """Keep in step with the actor from now on; needs a running event loop."""
        if self._loop is None:
            self._loop = asyncio.create_task(self._sync_forever(), name="breaker-sync")

    async def stop(self) -> None:
        """End the exchange; decisions go on from the copy."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop

    async def sync(self) -> None:
        """One exchange with the actor, or the knowledge that it is lost."""
        try:
            reply = await self._in_time(self._port.sync(self._board.news()))
            if not self._board.receive(reply, self._clock()):
                everything = self._board.everything(self._clock())
                self._board.receive(await self._in_time(self._port.sync(everything)), self._clock())
        except (SharedBreakerLostError, TimeoutError) as exc:
            self._note(lost=True, why=str(exc) or "no answer in time")
        else:
            self._note(lost=False)

    async def _sync_forever(self) -> None:
        """Begin at fixed intervals, however long an answer takes: agreement in 1 s rests on it."""
        while True:
            next_at = self._clock() + self._settings.sync_interval_s
            await self.sync()
            await asyncio.sleep(max(0.0, next_at - self._clock()))

    async def _acquire_probe(self, name: str) -> Permit | Refusal:
        if self._lost:
            return self._board.acquire_alone(name, self._clock())
        if self._asking[name] >= self._settings.probes:
            return Refusal(self._settings.shared_timeout_s)
        self._asking[name] += 1
        try:
            return await self._ask(name)
        finally:
            self._asking[name] -= 1

    async def _ask(self, name: str) -> Permit | Refusal:
        try:
            reply = await self._in_time(self._port.acquire(name, self._board.news()))
        except (SharedBreakerLostError, TimeoutError):
            return self._board.acquire_alone(name, self._clock())
        self._board.receive(reply, self._clock())
        if reply.answer is None:  # a new actor that has to be told first: the next sync does
            return Refusal(self._settings.sync_interval_s)
        return reply.answer

    async def _in_time(self, reply: Awaitable[SyncReply]) -> SyncReply:
        async with asyncio.timeout(self._settings.shared_timeout_s):
            return await reply

    def _note(self, *, lost: bool, why: str = "") -> None:
        if lost and not self._lost:
            _LOG.warning("Lost the shared breaker (%s); this replica decides alone.", why)
        if self._lost and not lost:
            _LOG.warning("The shared breaker is back.")
        self._lost = lost
