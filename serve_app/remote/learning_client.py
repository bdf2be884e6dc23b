"""One replica's learning client: sends forecast records, receives the calibration state.

No answer waits for the actor; without the actor, answers keep the last known state. Sending a
record twice does no harm: the actor ignores a forecast that it has already, and scores a step once.
"""

import asyncio
import contextlib
import logging
import pickle
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from ray.exceptions import RayTaskError

from runner.calibration.coverage import Actual, CoverageReport, OutcomeCounts
from runner.calibration.state import ConformalState
from runner.errors import OutcomesUnavailableError
from runner.forecast.answers import Outbox, forecast_record_of
from serve_app.remote.learning_actor import LearningReply, Version
from serve_app.remote.reconnecting_actor import ReconnectingActor

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
TOLD_AT_ONCE = 128  # records in one call: 3 ms of the replica's time, about 50 of the actor's
LIMIT_S = 5.0  # for one call; only requests to the outcomes endpoint wait for it


class Exchange(StrEnum):
    """How an exchange with the actor ended."""

    OK = "ok"
    LOST = "lost"  # no answer; its records are sent again
    FAILED = "failed"  # its records are dropped


class LearningLostError(Exception):
    """The actor did not answer: it does not exist, restarts, or died."""


class LearningFailedError(Exception):
    """The actor answered with an error; a second try would fail too."""


class LearningActorPort(Protocol):
    """Calls the actor; every failure is one of the two errors above."""

    async def exchange(self, notes: bytes, known: Version | None) -> LearningReply:
        """See LearningActor.exchange."""
        ...

    async def outcomes(self, sent: Sequence[Actual]) -> OutcomeCounts:
        """See LearningActor.outcomes."""
        ...


class RayLearningPort:
    """The actor behind a Ray handle.

    Args:
        get_actor: looks the handle up, blocking; raises while there is no such actor.
    """

    def __init__(self, get_actor: Callable[[], Any]) -> None:
        self._actor = ReconnectingActor(get_actor)

    async def exchange(self, notes: bytes, known: Version | None) -> LearningReply:
        """One round trip to the actor."""
        reply: LearningReply = await self._call("exchange", notes, known)
        return reply

    async def outcomes(self, sent: Sequence[Actual]) -> OutcomeCounts:
        """One round trip to the actor."""
        counts: OutcomeCounts = await self._call("outcomes", sent)
        return counts

    async def _call(self, method: str, *args: object) -> Any:
        try:
            return await self._actor.call(method, *args)
        except RayTaskError as exc:
            raise LearningFailedError(type(exc).__name__) from exc
        except Exception as exc:  # no error of Ray or of the lookup may stop the replica
            raise LearningLostError(type(exc).__name__) from exc


class Learning:
    """The learning client of one replica.

    Args:
        notes: the outbox of forecasts for the actor.
        port: calls the actor.
        calibrate_by: sets the calibration state of further answers.
        interval_s: time between two exchanges.
        report: the coverage report before the first exchange.
    """

    def __init__(
        self,
        notes: Outbox,
        port: LearningActorPort,
        calibrate_by: Callable[[ConformalState], None],
        interval_s: float,
        report: CoverageReport,
    ) -> None:
        self._outbox = notes
        self._port = port
        self._calibrate_by = calibrate_by
        self._interval_s = interval_s
        self._version: Version | None = None
        self._failing = False
        self._lock = asyncio.Lock()
        self._loop: asyncio.Task[None] | None = None
        self.report = report
        self.exchanges: Counter[str] = Counter()

    @property
    def dropped_notes(self) -> int:
        """Answers that were never sent: the actor was unavailable for too long."""
        return self._outbox.dropped

    def start(self) -> None:
        """Starts the regular exchange; needs a running event loop."""
        if self._loop is None:
            self._loop = asyncio.create_task(self._exchange_forever(), name="learning")

    async def stop(self) -> None:
        """Stops the exchange; answers keep the last known state."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop

    async def exchange(self) -> None:
        """Exchanges until the outbox is empty or an exchange fails."""
        async with self._lock:
            while await self._send():
                pass

    async def outcomes(self, sent: Sequence[Actual]) -> OutcomeCounts:
        """Scores actual values, also for forecasts that this replica has just made.

        Raises:
            OutcomesUnavailableError: there is no answer now; sending them again does no harm.
        """
        await self.exchange()
        try:
            return await _in_time(self._port.outcomes(sent))
        except (LearningLostError, LearningFailedError, TimeoutError) as exc:
            raise OutcomesUnavailableError(max(1.0, self._interval_s)) from exc

    async def _exchange_forever(self) -> None:
        """One call per interval: many answers must not cause as many calls."""
        while True:
            async with self._lock:
                await self._send()
            await asyncio.sleep(self._interval_s)

    async def _send(self) -> bool:
        """Sends the oldest records; returns whether to go on: there may be more, and it worked."""
        notes = self._outbox.take(TOLD_AT_ONCE)
        batch = pickle.dumps([forecast_record_of(note) for note in notes], protocol=5)
        try:
            self._receive(await _in_time(self._port.exchange(batch, self._version)))
        except LearningFailedError as exc:  # these records would fail every time
            self.exchanges[Exchange.FAILED] += 1
            self._outbox.dropped += len(notes)
            self._log_failure(f"Learning failed ({exc}): {len(notes)} answers are not learned from")
            return False
        except (LearningLostError, TimeoutError) as exc:
            self.exchanges[Exchange.LOST] += 1
            self._outbox.put_back(notes)
            self._log_failure(f"Lost the learning actor ({str(exc) or 'no answer in time'})")
            return False
        except asyncio.CancelledError:
            self._outbox.put_back(notes)
            raise
        self.exchanges[Exchange.OK] += 1
        self._log_failure(None)
        return len(notes) == TOLD_AT_ONCE

    def _receive(self, reply: LearningReply) -> None:
        self.report = reply.report
        if reply.state is not None:
            self._calibrate_by(reply.state)
            self._version = reply.version

    def _log_failure(self, failure: str | None) -> None:
        """Logs a warning when failures begin, and one when they have ended."""
        if failure and not self._failing:
            _LOG.warning("%s; answers keep the last known calibration.", failure)
        if self._failing and not failure:
            _LOG.warning("The learning actor is back.")
        self._failing = failure is not None


async def _in_time(answer: Awaitable[T]) -> T:
    async with asyncio.timeout(LIMIT_S):
        return await answer
