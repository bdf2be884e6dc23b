"""The learning actor as a process."""

import os
import time
from collections.abc import Sequence

from runner.calibration.forecast_record import Actual, OutcomeCounts
from runner.config.conformal import ConformalSection
from serve_app.remote.learning_actor import LearningActor, LearningReply, Version

LEARNING = "learning"


class ClockedLearningActor:
    """The learning actor with the clocks, and in the process, of its own.

    The constructor must not be able to fail. Serve starts the actor before any replica of its
    deployment: while the constructor raises there are none, and after 20 tries Serve gives the
    deployment up. So everything is built by the first call, which fails alone if that fails, and
    the next one tries again.
    """

    def __init__(self, settings: str, sources: Sequence[str]) -> None:
        self._settings = settings
        self._sources = sources
        self._built: LearningActor | None = None

    async def exchange(self, notes: bytes, known: Version | None) -> LearningReply:
        """See LearningActor.exchange."""
        return await self._learning().exchange(notes, known)

    async def outcomes(self, sent: Sequence[Actual]) -> OutcomeCounts:
        """See LearningActor.outcomes."""
        return await self._learning().outcomes(sent)

    def _learning(self) -> LearningActor:
        if self._built is None:
            os.setpriority(os.PRIO_PROCESS, 0, 10)  # learning gives way to answering
            section = ConformalSection.model_validate_json(self._settings)
            self._built = LearningActor(section, self._sources, time.monotonic, time.time)
        return self._built
