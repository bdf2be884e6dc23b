"""The ``conformal`` section of the configuration: target and segments of calibration."""

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from runner.config.sections import Ascending, Count, CountOrNone, Level, Positive, Rate, Section


class Dimension(StrEnum):
    """A property that forecasts can be grouped by."""

    LIQUIDITY = "liquidity"  # the caller's own bucket
    FREQ = "freq"
    WIDTH = "width"  # width of the band at its last step, before calibration


class ConformalSection(Section):
    """Calibrated bands beside the raw ones; see docs/calibration.md. Outcomes are actual values."""

    enabled_by_default: bool
    """Whether requests that do not choose get calibrated bands too."""
    state_file: Path | None
    """The file that `tsfm calibrate` wrote; `null`: none, such requests get a warning."""
    target_coverage: Level
    """Share of outcomes that should be between the outermost levels."""
    online: bool
    """Whether the service learns from the outcomes of forecasts while it runs. This changes
    calibrated bands, the p-values of checks, and the choice of `routing.mode` enforce."""
    learned_file: Path | None
    """File of the learned corrections; `null`: a restart starts from `state_file`."""
    max_markets: Count
    """Most markets whose forecasts wait for outcomes; the least recently used one is dropped."""
    min_samples: Count = 200
    """Outcomes that each step of a source needs to be calibrated. With 200 the coverage of each
    tail is known to 2 points of probability (one standard error)."""
    min_segment_samples: Count = 30
    """Outcomes that each step of a segment needs; with fewer a wider segment is used."""
    shrink_samples: CountOrNone = 100
    """Weight of the wider segment in the fit of a segment, as a number of outcomes."""
    segments: tuple[Dimension, ...] = (Dimension.LIQUIDITY, Dimension.WIDTH)
    """What forecasts are grouped by; where outcomes are too few, the first is dropped first."""
    width_edges: Annotated[tuple[Level, ...], Ascending] = (0.01, 0.03, 0.1)
    """Edges between the groups of the dimension `width`."""
    min_changes: CountOrNone = 12
    """Least price changes in a window that is learned from: without them widths are unknown."""
    online_rate: Rate = 0.15
    """Rate of learning (r of the update in docs/calibration.md): after a threefold change of widths
    the bands are right again in about 80 outcomes."""
    save_interval_s: Positive = 30
    """Time between two savings of `learned_file`: a crash loses at most this much learning."""
    exchange_interval_s: Positive = 2
    """Time between two exchanges of a replica with the process that learns."""
    rolling_points: Annotated[int, Field(ge=2)] = 1000
    """Number of outcomes in the reported coverage."""
    max_queued: Count = 5000
    """Answers that wait in a replica for the next exchange (3 kB each); the oldest are dropped."""
    max_pending_per_market: Count = 32
    """Latest forecasts of one market that are kept: those of 12 steps of five minutes need 12;
    requested every minute they need 60."""
    max_steps: Count = 48
    """Number of steps of a forecast that are scored; later steps are not calibrated by learning."""
    max_segments: Count = 256
    """Most segments of all sources together; the one that learned longest ago is dropped."""
    max_outcomes: Count = 5000
    """Most outcomes in one POST /tsfm/outcomes."""

    @model_validator(mode="after")
    def _check(self) -> Self:
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
