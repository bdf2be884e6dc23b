"""Whether a series suits the model, decided before anything is sent."""

from runner.config import FallbackSection
from runner.series import RegularSeries
from runner.types import FallbackReason


def unsuited(
    series: RegularSeries,
    liquidity_bucket: str | None,
    max_gap_minutes: float,
    settings: FallbackSection,
) -> FallbackReason | None:
    """Why the baseline must answer for this series, or None when the model may.

    Source: customer document, Stage 6 (fallback triggers) and "Defaults (v0)".
    """
    if liquidity_bucket in settings.baseline_only_liquidity:
        return FallbackReason.LOW_LIQUIDITY
    if series.longest_gap_minutes > max_gap_minutes:
        return FallbackReason.GAP_TOO_LONG
    if series.points < settings.min_points_for_tsfm:
        return FallbackReason.TOO_FEW_POINTS
    return None
