"""The files from which calibration begins: the fitted state, and the state learned since.

    {"schema_version": 1, "began_from": "6ab1...", "conformal": {...},
     "rolling": [{"source": "ewma", "segment": "all", "points": 4120, "weight": 983.1, ...}]}

``conformal`` has the form of a state file, and can be used as one. ``began_from`` is the digest of
the state file from which learning started: with another fit it starts again. ``rolling`` holds the
sums behind the coverage figures, the histogram of scores and the number of breaches and of those
that held, ``skill`` the sums of models beside the baseline, the least recently updated first;
``coverage`` the evidence that the coverage of a source left its target.

A file with any other content is refused: named in one warning, and the service runs without it.
"""

import hashlib
import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import FailFast, Field, field_validator

from runner.calibration.coverage import COLUMNS, Learned, Rolling
from runner.calibration.miscoverage import BETS, CoverageTest, Miscovers
from runner.calibration.skill import SUMS, Paired
from runner.calibration.state import (
    MAX_COUNT,
    ConformalState,
    Name,
    StateFile,
    Strict,
    load_state,
    read_bytes,
    read_file,
    state_body,
    write_json,
)
from runner.calibration.surprise import ScoreHistogram
from runner.config.conformal import ConformalSection
from runner.errors import ConfigError

logger = logging.getLogger(__name__)


def fitted_state(settings: ConformalSection, sources: Collection[str]) -> ConformalState | None:
    """The configured conformal state; None, after a warning, if its file cannot be used."""
    if settings.state_file is None:
        return None
    try:
        return load_state(settings.state_file, settings.target_coverage, sources)
    except ConfigError as exc:
        logger.warning("answers leave uncalibrated: %s", exc)
        return None


def initial_learned(
    settings: ConformalSection, sources: Collection[str], began_from: str | None
) -> Learned:
    """The state learned before a restart, else the fitted state, else an empty one."""
    file, target_coverage = settings.learned_file, settings.target_coverage
    if file is not None and os.path.lexists(file):
        try:
            return load_learned(file, target_coverage, sources, began_from)
        except ConfigError as exc:
            logger.warning("learning starts over: %s", exc)
    fitted = fitted_state(settings, sources)
    return Learned(fitted or ConformalState(target_coverage), {})


def load_learned(
    path: Path, target_coverage: float, sources: Collection[str], began_from: str | None
) -> Learned:
    """The state learned before a restart, without models that were removed since.

    Raises:
        ConfigError: as `load_state`, or learning started from another state file.
    """
    file = read_file(path, _LearnedFile)
    if file.began_from != began_from:
        raise ConfigError(f"{path} is from before the present state_file")
    known = {name: v for name, v in file.conformal.sources.items() if name in sources}
    conformal = file.conformal.model_copy(update={"sources": known})
    state = conformal.state_for(path, target_coverage, sources)
    rolling = {
        (row.source, row.segment): row.to_rolling() for row in file.rolling if row.source in sources
    }
    skill = {
        (row.source, row.segment): row.to_paired()
        for row in file.skill
        if row.source in sources and row.interval_score is not None
    }
    tests = {row.source: row.to_test() for row in file.coverage if row.source in sources}
    return Learned(state, rolling, skill, tests)


def save_learned(path: Path, learned: Learned, began_from: str | None) -> None:
    """Replaces the file as a whole.

    Raises:
        OSError: it cannot be written.
        ValueError: the path is impossible, or a number is not finite.
    """
    rolling = [
        {"source": source, "segment": segment, "points": one.points}
        | dict(zip(COLUMNS, one.sums.tolist(), strict=True))
        | {"scores": one.scores.counts.round(3).tolist(), "breaches": one.breaches.tolist()}
        for (source, segment), one in learned.rolling.items()
    ]
    skill = [
        {"source": source, "segment": segment, "forecasts": one.forecasts, "routed": one.routed}
        | dict(zip(SUMS, one.sums.tolist(), strict=True))
        for (source, segment), one in learned.skill.items()
    ]
    coverage = [
        {"source": source, "forecasts": one.forecasts, "recent": one.recent}
        | {"evidence": one.evidence.tolist(), "miscovers": one.miscovers}
        for source, one in learned.coverage.items()
    ]
    body = {
        "schema_version": 1,
        "began_from": began_from,
        "conformal": state_body(learned.state),
        "rolling": rolling,
        "skill": skill,
        "coverage": coverage,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, body)


def digest_of_file(path: Path | None) -> str | None:
    """SHA-256 of a state file; None if there is none that can be read."""
    try:
        return None if path is None else hashlib.sha256(read_bytes(path)).hexdigest()
    except ConfigError:
        return None


Sum = Annotated[float, Field(ge=0, le=MAX_COUNT, strict=True)]


class _RollingJson(Strict):
    source: Name
    segment: Name
    points: Annotated[int, Field(ge=1, le=MAX_COUNT, strict=True)]
    weight: Annotated[float, Field(gt=0, le=MAX_COUNT, strict=True)]
    covered: Sum
    width: Sum
    breached: Sum
    calibrated: Sum
    calibrated_covered: Sum
    calibrated_width: Sum
    scores: list[list[Sum]] | None = None  # None: from an earlier version
    breaches: tuple[Sum, Sum] = (0.0, 0.0)

    @field_validator("scores")
    @classmethod
    def _shaped(cls, scores: list[list[float]] | None) -> list[list[float]] | None:
        groups, bins = ScoreHistogram().counts.shape
        if scores is not None and [len(row) for row in scores] != [bins] * groups:
            raise ValueError(f"scores must be {groups} lists of {bins} numbers")
        return scores

    def to_rolling(self) -> Rolling:
        scores = ScoreHistogram() if self.scores is None else ScoreHistogram(np.array(self.scores))
        sums = np.array([getattr(self, column) for column in COLUMNS])
        return Rolling(self.points, sums, scores, np.array(self.breaches))


class _PairedJson(Strict):
    source: Name
    segment: Name
    forecasts: Annotated[int, Field(ge=1, le=MAX_COUNT, strict=True)]
    routed: bool
    weight: Annotated[float, Field(gt=0, le=MAX_COUNT, strict=True)]
    loss: Sum
    baseline_loss: Sum
    squared_difference: Sum
    covered: Sum
    baseline_covered: Sum
    interval_score: Sum | None = None  # from an earlier version, as the others that may be missing
    baseline_interval_score: Sum = 0.0
    with_thresholds: Sum = 0.0
    brier: Sum = 0.0
    baseline_brier: Sum = 0.0

    def to_paired(self) -> Paired:
        sums = np.array([getattr(self, column) for column in SUMS])
        return Paired(self.forecasts, sums, self.routed)


Evidence = tuple[Sum, Sum, Sum]
assert len(BETS) == 3


class _CoverageJson(Strict):
    source: Name
    forecasts: Annotated[int, Field(ge=1, le=MAX_COUNT, strict=True)]
    recent: Annotated[float, Field(ge=0, le=1, strict=True)]
    evidence: tuple[Evidence, Evidence]
    miscovers: Miscovers | None

    def to_test(self) -> CoverageTest:
        return CoverageTest(self.forecasts, self.recent, np.array(self.evidence), self.miscovers)


class _LearnedFile(Strict):
    schema_version: Literal[1]
    began_from: str | None
    conformal: StateFile
    rolling: Annotated[list[_RollingJson], FailFast()]
    # None of these in files of earlier versions.
    skill: Annotated[list[_PairedJson], FailFast()] = Field([])
    coverage: Annotated[list[_CoverageJson], FailFast()] = Field([])
