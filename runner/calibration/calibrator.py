"""Calibration as answers meet it: whether it is asked for, and what it makes of a band."""

from dataclasses import dataclass

import numpy as np

from runner.calibration.conformal import Adjusted, adjust, interval
from runner.calibration.segments import segment_chain
from runner.calibration.state import ConformalState
from runner.config.conformal import ConformalSection
from runner.types import Bands, ForecastRequest

UNCALIBRATED = "conformal_uncalibrated"  # warning: asked for, but nothing is known that helps


@dataclass(frozen=True, slots=True)
class Calibrator:
    """What is known (None: nothing), and how it is used."""

    settings: ConformalSection
    state: ConformalState | None = None

    def asked(self, request: ForecastRequest) -> bool:
        """Whether this request wants calibrated bands."""
        if request.conformal is None:
            return self.settings.enabled_by_default
        return request.conformal

    def segments(self, request: ForecastRequest, bands: Bands) -> tuple[str, ...]:
        """Where the forecast belongs, the narrowest segment first."""
        levels = np.asarray(request.levels)
        width = interval(bands.unlimited[None], levels, self.settings.target_coverage)
        return segment_chain(
            self.settings.segments,
            self.settings.width_edges,
            liquidity=request.liquidity_bucket,
            freq=request.freq,
            width=None if width is None else float(width[0, -1]),
        )

    def of(self, request: ForecastRequest, source: str, bands: Bands) -> Adjusted | None:
        """The calibrated paths ``(1, H, Q)`` of one answer, or None where too little is known.

        What is stretched is the band before its width limits: these hide what the source believed,
        and would undo what was learned.
        """
        if self.state is None:
            return None
        return adjust(
            bands.unlimited[None],
            np.asarray(request.levels),
            self.state,
            source,
            self.segments(request, bands),
            self.settings.enough,
        )
