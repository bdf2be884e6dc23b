"""The JSON file of the learned state, from which a restart continues.

    {"schema_version": 1, "began_from": "6ab1...",
     "conformal": {...},
     "rolling": [{"source": "ewma", "segment": "all", "points": 4120, "weight": 983.1, ...}]}

``conformal`` has the form of a state file, and can be used as one. ``began_from`` is the digest of
the state file from which learning started: with another fit it starts again. ``rolling`` holds the
sums behind the coverage figures, the least recently updated segment first. A file with any other
content is refused.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import FailFast, Field, ValidationError

from runner.calibration.coverage import COLUMNS, Rolling
from runner.calibration.online_calibrator import Learned, SegmentOf
from runner.calibration.state import (
    MAX_COUNT,
    Name,
    StateFile,
    Strict,
    first_fault,
    read_bytes,
    to_json,
    write_whole,
)
from runner.errors import ConfigError
from runner.types import FloatArray

_SCHEMA_VERSION = 1


def load_learned(
    path: Path, target_coverage: float, sources: Collection[str], began_from: str | None
) -> Learned | None:
    """The state learned before a restart, or None if it started from another state file.

    Args:
        path: the JSON file.
        target_coverage: of the configuration.
        sources: names of the sources of this service; others are dropped.
        began_from: digest of the configured state file.

    Raises:
        ConfigError: the file is missing or no JSON, has another schema or other levels, or a number
            out of range.
    """
    try:
        file = _LearnedFile.model_validate_json(read_bytes(path))
    except ValidationError as exc:
        raise ConfigError(f"{path}: {first_fault(exc)}") from exc
    if file.began_from != began_from:
        return None
    known = {name: v for name, v in file.conformal.sources.items() if name in sources}
    conformal = file.conformal.model_copy(update={"sources": known})
    state = conformal.state_for(path, target_coverage, sources)
    rolling = {one.where: one.to_rolling() for one in file.rolling if one.source in sources}
    return Learned(state, rolling)


def save_learned(path: Path, learned: Learned, began_from: str | None) -> None:
    """Replaces the file as a whole.

    Raises:
        OSError: it cannot be written.
        ValueError: the path is impossible, or a number is not finite.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, _to_json(learned, began_from))


def digest_of_file(path: Path | None) -> str | None:
    """SHA-256 of a state file; None if there is none that can be read."""
    try:
        return None if path is None else hashlib.sha256(read_bytes(path)).hexdigest()
    except ConfigError:
        return None


def _to_json(learned: Learned, began_from: str | None) -> str:
    rolling = ",\n  ".join(
        json.dumps(_rolling_json(where, one), allow_nan=False)
        for where, one in learned.rolling.items()
    )
    return (
        f'{{"schema_version": {_SCHEMA_VERSION}, "began_from": {json.dumps(began_from)},\n'
        f'"conformal": {to_json(learned.state)},\n"rolling": [\n  {rolling}\n]}}\n'
    )


def _rolling_json(where: SegmentOf, rolling: Rolling) -> Mapping[str, Any]:
    source, segment = where
    sums = dict(zip(COLUMNS, rolling.sums.tolist(), strict=True))
    return {"source": source, "segment": segment, "points": rolling.points, **sums}


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

    @property
    def where(self) -> SegmentOf:
        return self.source, self.segment

    def to_rolling(self) -> Rolling:
        sums: FloatArray = np.array([getattr(self, name) for name in COLUMNS])
        return Rolling(self.points, sums)


class _LearnedFile(Strict):
    schema_version: Literal[1]
    began_from: str | None
    conformal: StateFile
    rolling: Annotated[list[_RollingJson], FailFast()]
