"""The actor that learns for all replicas of one application, and keeps what it learns in a file.

Every decision is made in runner; here are the file, the clock and the process.
"""

import logging
import pickle
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from runner.calibration.coverage import CoverageReport, LearningEvent
from runner.calibration.forecast_record import Actual, ForecastRecord, OutcomeCounts
from runner.calibration.learned_file import digest_of_file, save_learned
from runner.calibration.online_calibrator import OnlineCalibrator
from runner.calibration.state import ConformalState
from runner.config.conformal import ConformalSection
from serve_app.remote.calibration_files import begin

logger = logging.getLogger(__name__)

Version = tuple[int, int]  # of what is known: which life of the actor, points scored in it


@dataclass(frozen=True, slots=True, eq=False)
class LearningReply:
    """What a replica hears in exchange for its notes.

    Attributes:
        version: of what is known now.
        state: what answers are calibrated by; None where the replica has this version already.
        report: what became of forecasts lately.
    """

    version: Version
    state: ConformalState | None
    report: CoverageReport


class LearningActor:
    """A plain class for Ray to wrap: one instance per application.

    Args:
        settings: the section `conformal`.
        sources: names of every source that can answer here.
        clock: monotonic seconds, of the process the actor lives in.
        wall_clock: POSIX seconds, read once: each life needs a higher number than the last.
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
        """A replica's notes in, what is known out.

        Args:
            notes: pickled list of `ForecastRecord`.
            known: the version that the replica has.
        """
        batch: list[ForecastRecord] = pickle.loads(notes)  # from our own replicas, over Ray
        self._learner.learn(batch)
        self._save_when_due()
        version = (self._life, self._learner.scored_points)
        state = None if version == known else self._learner.learned.state
        return LearningReply(version, state, self._learner.report())

    async def outcomes(self, sent: Sequence[Actual]) -> OutcomeCounts:
        """Scores what callers have sent by themselves."""
        return self._learner.outcomes(sent)

    def _save_when_due(self) -> None:
        points, file = self._learner.scored_points, self._settings.learned_file
        if file is None or points == self._saved_points or self._clock() < self._save_at:
            return
        self._save_at = self._clock() + self._settings.save_interval_s
        try:
            save_learned(file, self._learner.learned, self._began_from)
        except (OSError, ValueError) as exc:  # ValueError: a path that no file can have
            self._learner.count(LearningEvent.FAILED_SAVES)
            if not self._save_fails:
                logger.warning("%s: what is learned cannot be saved (%s)", file, exc)
            self._save_fails = True
        else:
            self._saved_points, self._save_fails = points, False
