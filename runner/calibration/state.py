"""The state of calibration, as a value and as a versioned JSON file, and its segments.

    {"schema_version": 1, "target_coverage": 0.8, "levels": [0.1, 0.9], "sources": {
      "ewma": {"all": {"sample_size": [412, ...], "lower": [1.02, ...], "upper": [0.98, ...]}}}}

``lower`` and ``upper`` are factors for the half of the band below and above its centre, one a step:
1 leaves it unchanged, 1.5 makes it 50 % wider. ``sample_size`` is the number of outcomes they were
learned from. A file with any other content is refused as a whole.
"""

import json
import os
import stat
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, model_validator

from runner.config.conformal import ConformalSection, Dimension
from runner.errors import ConfigError
from runner.types import FloatArray

EVERYTHING = "all"  # the segment of all outcomes
SMALLEST_FACTOR, LARGEST_FACTOR = 0.05, 20.0  # updates multiply: 0 and infinity would stay
MAX_COUNT = 2**53  # floats and JSON readers keep integers up to this exact
_MAX_MIB = 16  # a file of 1,000 segments of 512 steps; the shipped limits make 0.4
_MAX_DESCRIBED = 100  # pydantic describes all faults or none; a million take gigabytes


class Strict(BaseModel):
    """Refuses unknown keys and numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Strict)


@dataclass(frozen=True, slots=True, eq=False)
class StepFactors:
    """The factors of one segment of one source."""

    factors: FloatArray  # (H, 2) for the lower and the upper half of the band
    sample_size: NDArray[np.int64]  # (H,) number of outcomes of each step

    def samples(self, horizon_steps: int) -> int:
        """The least number of outcomes among the first steps; 0 if the horizon is longer."""
        if horizon_steps > len(self.factors):
            return 0
        return int(self.sample_size[:horizon_steps].min())


@dataclass(frozen=True, slots=True, eq=False)
class ConformalState:
    """Factors by source (a model's runtime name, or the baseline's) and segment."""

    target_coverage: float
    tracks: Mapping[str, Mapping[str, StepFactors]] = field(default_factory=dict)

    def find(
        self, source: str, segments: Sequence[str], horizon_steps: int, settings: ConformalSection
    ) -> tuple[str, StepFactors] | None:
        """Name and factors of the first of ``segments`` with enough outcomes at every step.

        None if the source as a whole has too few.
        """
        tracks = self.tracks.get(source, {})
        whole = tracks.get(EVERYTHING)
        if whole is None or whole.samples(horizon_steps) < settings.min_samples:
            return None
        for name in segments:
            track = tracks.get(name)
            if track is not None and track.samples(horizon_steps) >= settings.min_segment_samples:
                return name, track
        return EVERYTHING, whole

    def without(self, source: str, segment: str) -> "ConformalState":
        """The state without one segment."""
        of_source = {k: v for k, v in self.tracks.get(source, {}).items() if k != segment}
        return ConformalState(self.target_coverage, {**self.tracks, source: of_source})


def tails(target_coverage: float) -> tuple[float, float]:
    """The two quantile levels whose interval has this coverage.

    >>> tails(0.8)
    (0.1, 0.9)
    """
    return round((1 - target_coverage) / 2, 9), round((1 + target_coverage) / 2, 9)


def load_state(path: Path, target_coverage: float, sources: Collection[str]) -> ConformalState:
    """Reads a state file; raises ConfigError also for another coverage or unknown sources."""
    return read_file(path, StateFile).state_for(path, target_coverage, sources)


def read_file(path: Path, schema: type[S]) -> S:
    """The content of a JSON file.

    Raises:
        ConfigError: the file is missing, too long or no JSON, or has another schema.
    """
    try:
        return schema.model_validate_json(read_bytes(path))
    except ValidationError as exc:
        raise ConfigError(f"{path}: {_first_fault(exc)}") from exc


def read_bytes(path: Path) -> bytes:
    """The content of a regular file (reading a pipe could block) of at most 16 MiB.

    Raises:
        ConfigError: it cannot be read, is no regular file, or is too long.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("it is no regular file")
        with path.open("rb") as file:
            content = file.read(_MAX_MIB * 2**20 + 1)
    except (OSError, ValueError) as exc:  # ValueError: an impossible path
        raise ConfigError(f"{path}: the conformal state cannot be read ({exc})") from exc
    if len(content) > _MAX_MIB * 2**20:
        raise ConfigError(f"{path}: the conformal state is over {_MAX_MIB} MiB")
    return content


def save_state(path: Path, state: ConformalState) -> None:
    """Replaces the file as a whole."""
    write_json(path, state_body(state))


def write_json(path: Path, body: Mapping[str, Any]) -> None:
    """Replaces a file: readers get the old content or the new one, never a part."""
    text = json.dumps(body, allow_nan=False)
    draft = path.with_name(f".{path.name}.{os.getpid()}")  # the same folder: a rename is atomic
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def state_body(state: ConformalState) -> dict[str, Any]:
    """The content of the file."""
    return {
        "schema_version": 1,
        "target_coverage": state.target_coverage,
        "levels": tails(state.target_coverage),
        "sources": {
            source: {name: _track_body(track) for name, track in sorted(tracks.items())}
            for source, tracks in sorted(state.tracks.items())
        },
    }


def _track_body(track: StepFactors) -> dict[str, Any]:
    lower, upper = track.factors.T.round(6).tolist()
    return {"sample_size": track.sample_size.tolist(), "lower": lower, "upper": upper}


Factor = Annotated[float, Field(ge=SMALLEST_FACTOR, le=LARGEST_FACTOR, strict=True)]
Samples = Annotated[int, Field(ge=0, le=MAX_COUNT, strict=True)]
Name = Annotated[str, Field(max_length=500)]  # of a source or a segment
Steps = Field(min_length=1, max_length=10_000)


class _TrackJson(Strict):
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


class StateFile(Strict):
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
        """The state for a service with this coverage and these sources; see `load_state`."""
        if tuple(self.levels) != tails(target_coverage):
            raise ConfigError(
                f"{path}: levels are {self.levels}, but conformal.target_coverage "
                f"{target_coverage:g} needs {list(tails(target_coverage))}"
            )
        unknown = sorted(set(self.sources) - set(sources))
        if unknown:
            raise ConfigError(f"{path}: sources.{unknown[0]} is no model of this service")
        tracks = {
            source: {name: track.to_track() for name, track in segments.items()}
            for source, segments in self.sources.items()
        }
        return ConformalState(self.target_coverage, tracks)


def _first_fault(exc: ValidationError) -> str:
    if exc.error_count() > _MAX_DESCRIBED:
        return f"the conformal state has {exc.error_count()} faults"
    first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))[:200] or "the conformal state"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def segment_chain(
    settings: ConformalSection, liquidity: str | None, freq: str, interval: FloatArray | None
) -> tuple[str, ...]:
    """The names of a forecast's segments, the narrowest first; the last holds every forecast.

    ``interval`` is ``(H, 3)`` from `conformal.interval_of`, before the width limits; its width at
    the last step counts.
    """
    values = {Dimension.LIQUIDITY: liquidity, Dimension.FREQ: freq, Dimension.WIDTH: None}
    if interval is not None:
        bounds = (0.0, *settings.width_edges, 1.0)
        above = bisect_right(settings.width_edges, float(interval[-1, 2] - interval[-1, 0]))
        values[Dimension.WIDTH] = f"{bounds[above]:g}..{bounds[above + 1]:g}"
    parts = [f"{name}={values[name]}" for name in settings.segments if values[name] is not None]
    return (*("|".join(parts[i:]) for i in range(len(parts))), EVERYTHING)
