"""The ``conformal`` section of the configuration: what calibration aims at and tells apart."""

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from runner.config.section import Count, CountOrNone, Level, Positive, Section


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

    enabled_by_default: bool
    """Whether requests that do not say get calibrated bands too."""
    state_file: Path | None
    """What `tsfm calibrate` has written; `null`: none, such requests get a warning."""
    target_coverage: Level
    """Share of outcomes that the outermost levels should hold."""
    online: bool
    """Whether outcomes of forecasts are learned from while the service runs. It changes answers
    only where calibrated bands are asked for."""
    learned_file: Path | None
    """Where what was learned is kept; `null`: a restart starts from `state_file`."""
    max_markets: Count
    """Most markets whose forecasts wait for outcomes; the one not asked for longest goes first."""
    min_samples: Count = 200
    """Outcomes that must stand behind each step of a source; with fewer it is not calibrated. With
    200 the coverage of each tail is known to 2 points of probability (one standard error)."""
    min_segment_samples: Count = 30
    """Outcomes that must stand behind each step of a segment; with fewer a wider one is used."""
    shrink_samples: CountOrNone = 100
    """As how many outcomes the wider segment counts in the fit of a segment."""
    segments: tuple[Dimension, ...] = (Dimension.LIQUIDITY, Dimension.WIDTH)
    """What forecasts are told apart by; where outcomes are too few the first one is given up
    first. See docs/calibration.md for how others compare."""
    width_edges: tuple[Level, ...] = (0.01, 0.03, 0.1)
    """Where the dimension `width` is cut."""
    min_changes: CountOrNone = 12
    """Price changes in a window with fewer of which nothing is learned: a market that stands still
    says nothing about widths."""
    online_rate: Annotated[float, Field(gt=0, le=1)] = 0.15
    """How fast learning follows (r of the update in docs/calibration.md): a threefold change is
    made good in about 80 outcomes."""
    save_interval_s: Positive = 30
    """Time between two savings of `learned_file`: how much learning a crash may cost."""
    exchange_interval_s: Positive = 2
    """Time between two exchanges of a replica with the process that learns."""
    rolling_points: Annotated[int, Field(ge=2)] = 1000
    """Outcomes that the reported coverage is taken over."""
    max_queued: Count = 5000
    """Answers that wait in a replica for the next exchange (3 kB each); the oldest go first."""
    max_pending_per_market: Count = 32
    """Forecasts of one market that wait for outcomes, or are remembered as done; the earliest go
    first. Five-minute forecasts of 12 steps need 12; asked for every minute they need 60."""
    max_steps: Count = 48
    """First steps of a forecast that are scored; learning does not calibrate later ones."""
    max_segments: Count = 256
    """Most segments of all sources together; the one that learned longest ago is dropped."""
    max_outcomes: Count = 5000
    """Most outcomes in one POST /tsfm/outcomes."""

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
