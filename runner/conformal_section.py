"""The ``conformal`` section of the configuration: what calibration aims at and tells apart."""

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, model_validator

from runner.section import Count, Level, Section, none_from_text


class Dimension(StrEnum):
    """What forecasts can be told apart by."""

    LIQUIDITY = "liquidity"  # the caller's own bucket
    FREQ = "freq"
    WIDTH = "width"  # how wide the band is by itself, at its last step


class ConformalSection(Section):
    """Calibrated bands beside the raw ones; see docs/calibration.md."""

    enabled_by_default: bool  # for requests that do not say
    state_file: Annotated[Path | None, BeforeValidator(none_from_text)]  # null: uncalibrated
    target_coverage: Level
    min_samples: Count  # outcomes that must stand behind each step of a segment
    segments: tuple[Dimension, ...]  # the first one is given up first
    width_edges: tuple[Level, ...]  # where the dimension `width` is cut

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.width_edges) != sorted(set(self.width_edges)):
            raise ValueError("width_edges must ascend and be unique")
        if len(set(self.segments)) < len(self.segments):
            raise ValueError("segments must not name a dimension twice")
        tail = (1 - self.target_coverage) / 2
        fewest = math.ceil((1 - tail) / tail - 1e-9)
        if self.min_samples < fewest:
            raise ValueError(
                f"min_samples must not be under {fewest}: fewer outcomes cannot "
                f"hold a target_coverage of {self.target_coverage:g}"
            )
        return self
