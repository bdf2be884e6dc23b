"""The learning actor as a process."""

import os
import time
from collections.abc import Sequence

from runner.conformal_section import ConformalSection
from serve_app.learning_actor import LearningActor

LEARNING = "learning"


class ClockedLearningActor(LearningActor):
    """The learning actor with the clocks, and in the process, of its own."""

    def __init__(self, settings: str, sources: Sequence[str]) -> None:
        os.nice(10)  # learning gives way to answering
        section = ConformalSection.model_validate_json(settings)
        super().__init__(section, sources, time.monotonic, time.time)
