"""One replica's learning client: sends forecast records, receives the calibration state.

No answer waits for the actor; without the actor, answers keep the last known state. Sending a
record twice does no harm: the actor ignores a forecast that it has already, and scores a step once.
"""

import asyncio
import logging
import pickle
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ray.exceptions import RayTaskError

from runner.calibration.coverage import (
    Actual,
    CoverageReport,
    ForecastRecord,
    Learned,
    OutcomeCounts,
)
from runner.errors import OutcomesUnavailableError
from runner.forecast.answers import Outbox

_LOG = logging.getLogger(__name__)
MAX_RECORDS = 128  # in one call: 3 ms of the replica's time, about 50 of the actor's
LIMIT_S = 5.0  # for one call; only requests to the outcomes endpoint wait for it

Version = tuple[int, int]  # of the learned state: actor instance, changes by it


@dataclass(frozen=True, slots=True, eq=False)
class LearningReply:
    """The actor's answer; ``learned`` is None where the replica has this version already."""

    version: Version
    learned: Learned | None
    report: CoverageReport


class Exchange(StrEnum):
    """How an exchange with the actor ended."""

    OK = "ok"
    LOST = "lost"  # no answer; its records are sent again
    FAILED = "failed"  # its records are dropped


class Learning:
    """The learning client of one replica.

    ``call_actor`` calls a method of the actor by name; it raises RayTaskError if the method raises,
    and other errors while the actor cannot be reached. ``calibrate_by`` sets the calibration state
    of further answers; ``report`` is the coverage report before the first exchange; ``sent`` is
    called with the records of each exchange that worked.
    """

    def __init__(
        self,
        outbox: Outbox,
        call_actor: Callable[..., Awaitable[Any]],
        calibrate_by: Callable[[Learned], None],
        interval_s: float,
        report: CoverageReport,
        sent: Callable[[Sequence[ForecastRecord]], None] = lambda _: None,
    ) -> None:
        self._outbox = outbox
        self._call_actor = call_actor
        self._calibrate_by = calibrate_by
        self._sent = sent
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
        self._loop = asyncio.create_task(self._exchange_forever(), name="learning")

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
            counts: OutcomeCounts = await self._call("outcomes", sent)
        except Exception as exc:
            raise OutcomesUnavailableError(max(1.0, self._interval_s)) from exc
        return counts

    async def _exchange_forever(self) -> None:
        """One call per interval: many answers must not cause as many calls."""
        while True:
            async with self._lock:
                await self._send()
            await asyncio.sleep(self._interval_s)

    async def _send(self) -> bool:
        """Sends the oldest records; returns whether to go on: there may be more, and it worked."""
        records = self._outbox.take(MAX_RECORDS)
        try:
            packed = pickle.dumps(records, protocol=5)
            reply: LearningReply = await self._call("exchange", packed, self._version)
        except asyncio.CancelledError:
            self._outbox.put_back(records)
            raise
        except RayTaskError as exc:  # these records would fail every time
            self._outbox.dropped += len(records)
            why = f"Learning failed ({type(exc).__name__}): {len(records)} answers are not used"
            self._note(Exchange.FAILED, why)
            return False
        except Exception as exc:  # noqa: BLE001 - no error of Ray may stop the replica
            self._outbox.put_back(records)
            self._note(Exchange.LOST, f"Lost the learning actor ({type(exc).__name__})")
            return False
        self._note(Exchange.OK)
        self._sent(records)
        self.report = reply.report
        if reply.learned is not None:
            self._calibrate_by(reply.learned)
            self._version = reply.version
        return len(records) == MAX_RECORDS

    async def _call(self, method: str, *args: object) -> Any:
        async with asyncio.timeout(LIMIT_S):
            return await self._call_actor(method, *args)

    def _note(self, ended: Exchange, failure: str | None = None) -> None:
        """Counts an exchange; logs a warning when failures begin, and one when they have ended."""
        self.exchanges[ended] += 1
        if failure and not self._failing:
            _LOG.warning("%s; answers keep the last known calibration.", failure)
        if self._failing and not failure:
            _LOG.warning("The learning actor is back.")
        self._failing = failure is not None
