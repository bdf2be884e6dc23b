"""The learning actor's process: real clocks, low CPU priority."""

import os
import time
from collections.abc import Sequence

from runner.calibration.coverage import Actual, OutcomeCounts
from runner.config.conformal import ConformalSection
from serve_app.remote.learning_actor import LearningActor, LearningReply, Version

LEARNING = "learning"


class ClockedLearningActor:
    """The learning actor with real clocks.

    The constructor must not be able to fail. Serve starts the actor before any replica of its
    deployment: while the constructor raises there are no replicas, and after 20 tries Serve gives
    up the deployment. So the first call builds everything; if that fails, only this call fails, and
    the next call tries again.
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
            os.setpriority(os.PRIO_PROCESS, 0, 10)  # answering requests has priority over learning
            section = ConformalSection.model_validate_json(self._settings)
            self._built = LearningActor(section, self._sources, time.monotonic, time.time)
        return self._built
