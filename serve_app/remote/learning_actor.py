"""The actor that learns for all replicas of one application, and saves the learned state in a file.

Every decision is made in `runner`; this module adds the file and the clock.
"""

import logging
import pickle
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from runner.calibration.coverage import (
    Actual,
    CoverageReport,
    ForecastRecord,
    LearningEvent,
    OutcomeCounts,
)
from runner.calibration.learned_file import digest_of_file, save_learned
from runner.calibration.online_calibrator import OnlineCalibrator
from runner.calibration.state import ConformalState
from runner.config.conformal import ConformalSection
from serve_app.remote.calibration_files import begin

logger = logging.getLogger(__name__)

Version = tuple[int, int]  # of the learned state: actor instance, points scored by it


@dataclass(frozen=True, slots=True, eq=False)
class LearningReply:
    """The actor's answer to a replica's forecast records.

    Attributes:
        version: of the current learned state.
        state: the calibration state; None where the replica has this version already.
        report: coverage of recent forecasts.
    """

    version: Version
    state: ConformalState | None
    report: CoverageReport


class LearningActor:
    """A plain class for Ray to wrap: one instance per application.

    Args:
        settings: the section `conformal`.
        sources: names of all sources of answers.
        clock: monotonic seconds, of the actor's process.
        wall_clock: POSIX seconds, read once: each instance needs a higher number than the last.
    """

    def __init__(
        self,
        settings: ConformalSection,
        sources: Collection[str],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._began_from = digest_of_file(settings.state_file)
        self._learner = OnlineCalibrator(settings, begin(settings, sources, self._began_from))
        self._clock = clock
        self._life = int(wall_clock() * 1000)
        self._saved_points = 0
        self._save_at = clock() + settings.save_interval_s
        self._save_fails = False

    async def exchange(self, notes: bytes, known: Version | None) -> LearningReply:
        """Takes a replica's forecast records; returns the learned state.

        Args:
            notes: pickled list of `ForecastRecord`.
            known: the version that the replica has.
        """
        batch: list[ForecastRecord] = pickle.loads(notes)  # trusted: from our own replicas, by Ray
        self._learner.learn(batch)
        self._save_when_due()
        version = (self._life, self._learner.scored_points)
        state = None if version == known else self._learner.learned.state
        return LearningReply(version, state, self._learner.report())

    async def outcomes(self, sent: Sequence[Actual]) -> OutcomeCounts:
        """Scores actual values sent to the outcomes endpoint."""
        return self._learner.outcomes(sent)

    def _save_when_due(self) -> None:
        points, file = self._learner.scored_points, self._settings.learned_file
        if file is None or points == self._saved_points or self._clock() < self._save_at:
            return
        self._save_at = self._clock() + self._settings.save_interval_s
        try:
            save_learned(file, self._learner.learned, self._began_from)
        except (OSError, ValueError) as exc:  # ValueError: an impossible path
            self._learner.count(LearningEvent.FAILED_SAVES)
            if not self._save_fails:
                logger.warning("%s: what is learned cannot be saved (%s)", file, exc)
            self._save_fails = True
        else:
            self._saved_points, self._save_fails = points, False
