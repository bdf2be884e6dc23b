"""Whether a series suits the model, decided before anything is sent."""

from runner.config.registry import ModelEntry
from runner.config.sections import FallbackSection
from runner.forecast.series import RegularSeries
from runner.types import FallbackReason, ForecastRequest


def ineligible_reason(
    request: ForecastRequest, series: RegularSeries, entry: ModelEntry, settings: FallbackSection
) -> FallbackReason | None:
    """Why the baseline must answer for this series, or None when the model may.

    Source: customer document, Stage 6 (fallback triggers) and "Defaults (v0)".
    """
    if request.liquidity_bucket in settings.baseline_only_liquidity:
        return FallbackReason.LOW_LIQUIDITY
    if series.longest_gap_minutes > request.max_gap_minutes:
        return FallbackReason.GAP_TOO_LONG
    if series.points < settings.min_points_for_tsfm:
        return FallbackReason.TOO_FEW_POINTS
    if not entry.gives(request.levels):
        return FallbackReason.LEVELS_NOT_SUPPORTED
    return None
