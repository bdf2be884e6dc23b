"""What calibration has learned, as a value, and the versioned JSON file it is kept in.

    {"schema_version": 1, "target_coverage": 0.8, "levels": [0.1, 0.9], "sources": {
      "ewma": {"all": {"sample_size": [412, ...], "lower": [1.02, ...], "upper": [0.98, ...]}}}}

``lower`` and ``upper`` stretch the half of the band below and above its centre, one number a step:
1 leaves it, 1.5 makes it half as wide again. ``sample_size`` is how many outcomes stand behind it.
A file that says anything else is refused whole: bands must not lean on half a calibration.
"""

import json
import os
import stat
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, model_validator

from runner.config.conformal import Enough
from runner.errors import ConfigError
from runner.types import FloatArray

SCHEMA_VERSION = 1
EVERYTHING = "all"  # the segment that every outcome belongs to
SMALLEST_FACTOR, LARGEST_FACTOR = 0.05, 20.0  # nothing multiplies its way back from 0 or infinity
MOST = 2**53  # of whatever is counted: up to here floats and readers of JSON keep whole numbers
_LONGEST_MIB = 16  # of a file: 1,000 segments of 512 steps; the shipped limits make 0.4
_MOST_DESCRIBED = 100  # faults: pydantic describes all or none, and a million take gigabytes


@dataclass(frozen=True, slots=True, eq=False)
class StepFactors:
    """What one segment of one source has taught, step by step.

    Attributes:
        factors: ``(H, 2)`` stretch of the lower and of the upper half of the band.
        sample_size: ``(H,)`` outcomes behind each step.
    """

    factors: FloatArray
    sample_size: NDArray[np.int64]

    def samples(self, horizon_steps: int) -> int:
        """The fewest outcomes behind one of the first steps; 0 where these are not all there."""
        there = len(self.factors) >= horizon_steps
        return int(self.sample_size[:horizon_steps].min()) if there else 0


@dataclass(frozen=True, slots=True, eq=False)
class ConformalState:
    """Tracks by source (a model's runtime name, or the baseline's) and segment."""

    target_coverage: float
    tracks: Mapping[str, Mapping[str, StepFactors]] = field(default_factory=dict)

    def find(
        self, source: str, segments: Sequence[str], horizon_steps: int, enough: Enough
    ) -> tuple[str, StepFactors] | None:
        """The first of ``segments`` with enough outcomes at every step, by name.

        None where too little is known of the source as a whole.
        """
        tracks = self.tracks.get(source, {})
        whole = tracks.get(EVERYTHING)
        if whole is None or whole.samples(horizon_steps) < enough.of_source:
            return None
        for name in segments:
            track, least = tracks.get(name), 0 if name == EVERYTHING else enough.of_segment
            if track is not None and track.samples(horizon_steps) >= least:
                return name, track
        return None

    def without(self, source: str, segment: str) -> "ConformalState":
        """The state less one track, if it is there."""
        of_source = {k: v for k, v in self.tracks.get(source, {}).items() if k != segment}
        return ConformalState(self.target_coverage, {**self.tracks, source: of_source})


def tails(target_coverage: float) -> tuple[float, float]:
    """The two levels between which the share ``target_coverage`` lies.

    >>> tails(0.8)
    (0.1, 0.9)
    """
    return round((1 - target_coverage) / 2, 9), round((1 + target_coverage) / 2, 9)


def load_state(path: Path, target_coverage: float, sources: Collection[str]) -> ConformalState:
    """The state in a file, if it is sound and meant for this service.

    Args:
        path: the JSON file.
        target_coverage: what the configuration asks for.
        sources: names of every source that can answer here.

    Raises:
        ConfigError: the file is missing, is no JSON, has another schema or other levels, knows
            other sources, or holds a number that cannot be.
    """
    try:
        file = StateFile.model_validate_json(read_bytes(path))
    except ValidationError as exc:
        raise ConfigError(f"{path}: {first_complaint(exc)}") from exc
    return file.state_for(path, target_coverage, sources)


def read_bytes(path: Path) -> bytes:
    """What is in a file of learned numbers.

    Only a regular file is opened, since a pipe would be waited for, and never more of it is read
    than the longest file can hold.

    Raises:
        ConfigError: it cannot be read, is no file, or is too long.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("it is no regular file")
        with path.open("rb") as file:
            content = file.read(_LONGEST_MIB * 2**20 + 1)
    except (OSError, ValueError) as exc:  # ValueError: a path that no file can have
        raise ConfigError(f"{path}: the conformal state cannot be read ({exc})") from exc
    if len(content) > _LONGEST_MIB * 2**20:
        raise ConfigError(f"{path}: the conformal state is over {_LONGEST_MIB} MiB")
    return content


def save_state(path: Path, state: ConformalState) -> None:
    """Writes the file anew, whole or not at all."""
    write_whole(path, to_json(state))


def write_whole(path: Path, text: str) -> None:
    """Writes a file anew: whoever reads it finds the old one or the new one, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")  # the same folder: a rename is atomic
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def to_json(state: ConformalState) -> str:
    """The file's text, one line a track, so that an operator can read and compare it."""
    sources = ",\n".join(
        f"  {json.dumps(source)}: {{\n{_lines(tracks)}\n  }}"
        for source, tracks in sorted(state.tracks.items())
    )
    return (
        f'{{"schema_version": {SCHEMA_VERSION}, "target_coverage": {state.target_coverage!r}, '
        f'"levels": {list(tails(state.target_coverage))},\n "sources": {{\n{sources}\n }}}}\n'
    )


def _lines(tracks: Mapping[str, StepFactors]) -> str:
    return ",\n".join(
        f"    {json.dumps(segment)}: {json.dumps(_track_json(track), allow_nan=False)}"
        for segment, track in sorted(tracks.items())
    )


def _track_json(track: StepFactors) -> dict[str, Any]:
    lower, upper = track.factors.T.round(6).tolist()
    return {"sample_size": track.sample_size.tolist(), "lower": lower, "upper": upper}


Factor = Annotated[float, Field(ge=SMALLEST_FACTOR, le=LARGEST_FACTOR, strict=True)]
Samples = Annotated[int, Field(ge=0, le=MOST, strict=True)]
Name = Annotated[str, Field(max_length=500)]  # of a source or a segment
Steps = Field(min_length=1, max_length=10_000)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _TrackJson(_Strict):
    sample_size: Annotated[list[Samples], Steps, FailFast()]
    lower: Annotated[list[Factor], Steps, FailFast()]
    upper: Annotated[list[Factor], Steps, FailFast()]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.sample_size) == len(self.lower) == len(self.upper):
            raise ValueError("sample_size, lower and upper must have one number a step each")
        return self

    def to_track(self) -> StepFactors:
        factors = np.array([self.lower, self.upper], dtype=np.float64).T
        return StepFactors(factors, np.array(self.sample_size, dtype=np.int64))


class StateFile(_Strict):
    """The file as JSON."""

    schema_version: Literal[1]
    target_coverage: Annotated[float, Field(gt=0, lt=1)]
    levels: Annotated[list[float], Field(min_length=2, max_length=2), FailFast()]
    sources: dict[Name, Annotated[dict[Name, _TrackJson], Field(max_length=10_000)]]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if tuple(self.levels) != tails(self.target_coverage):
            raise ValueError("levels and target_coverage contradict each other")
        return self

    def state_for(
        self, path: Path, target_coverage: float, sources: Collection[str]
    ) -> ConformalState:
        """The state, if it is meant for this service.

        Raises:
            ConfigError: it is for other levels, or knows sources that cannot answer here.
        """
        if tuple(self.levels) != tails(target_coverage):
            raise ConfigError(
                f"{path}: levels are {self.levels}, but conformal.target_coverage "
                f"{target_coverage:g} needs {list(tails(target_coverage))}"
            )
        strangers = sorted(set(self.sources) - set(sources))
        if strangers:
            raise ConfigError(f"{path}: sources.{strangers[0]} is no model of this service")
        tracks = {
            source: {name: track.to_track() for name, track in segments.items()}
            for source, segments in self.sources.items()
        }
        return ConformalState(self.target_coverage, tracks)


def first_complaint(exc: ValidationError) -> str:
    """What is wrong first; a file with another schema would have many complaints."""
    if exc.error_count() > _MOST_DESCRIBED:
        return f"the conformal state has {exc.error_count()} faults"
    found = exc.errors(include_url=False, include_context=False, include_input=False)
    schema = [e for e in found if e["loc"] == ("schema_version",)]
    first = (schema or found)[0]
    where = ".".join(map(str, first["loc"]))[:200] or "the conformal state"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"
