"""The ``conformal`` section of the configuration: what calibration aims at and tells apart."""

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from runner.section import Count, CountOrNone, Level, Positive, Section, none_from_text

FileOrNone = Annotated[Path | None, BeforeValidator(none_from_text)]


class Dimension(StrEnum):
    """What forecasts can be told apart by."""

    LIQUIDITY = "liquidity"  # the caller's own bucket
    FREQ = "freq"
    WIDTH = "width"  # how wide the band is by itself, at its last step


@dataclass(frozen=True, slots=True)
class Enough:
    """How many outcomes must stand behind each step of a calibration that is used."""

    of_source: int  # else nothing is known of it
    of_segment: int  # else a wider one speaks for it


class ConformalSection(Section):
    """Calibrated bands beside the raw ones; see docs/calibration.md."""

    enabled_by_default: bool  # for requests that do not say
    state_file: FileOrNone  # what a calibration has found; null: nothing
    target_coverage: Level
    min_samples: Count  # outcomes that must stand behind each step of a source
    min_segment_samples: Count  # of a segment
    shrink_samples: CountOrNone  # outcomes that the wider segment counts as in a fit
    segments: tuple[Dimension, ...]  # the first one is given up first
    width_edges: tuple[Level, ...]  # where the dimension `width` is cut
    min_changes: CountOrNone  # a window with fewer teaches nothing: see `has_moved`
    online: bool  # whether what comes of forecasts is learned while the service runs
    online_rate: Annotated[float, Field(gt=0, le=1)]  # of `conformal.update`: how fast to follow
    learned_file: FileOrNone  # where it is kept; null: a restart starts from `state_file`
    save_interval_s: Positive  # how much learning a crash may cost
    exchange_interval_s: Positive  # between replicas and the one process that learns
    rolling_points: Annotated[int, Field(ge=2)]  # outcomes that the reported figures speak of
    max_queued: Count  # answers that wait in a replica for the next exchange
    max_markets: Count  # whose forecasts wait for outcomes
    max_pending_per_market: Count  # forecasts of one market that are waiting, or remembered as done
    max_steps: Count  # of a forecast that are scored, the first ones
    max_segments: Count  # of all sources together
    max_outcomes: Count  # in one POST /tsfm/outcomes

    @property
    def enough(self) -> Enough:
        """How much must be known of a source and of a segment."""
        return Enough(self.min_samples, self.min_segment_samples)

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
