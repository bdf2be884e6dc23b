"""Scores of the same bands with and without the width limits of answers."""

import numpy as np

from runner.bands import min_widths, sanitize
from runner.config.sections import BandsSection
from runner.types import FloatArray
from serve_app.backtest.scoring.scores import PINBALL_LEVELS, Scores, score_bands
from serve_app.backtest.scoring.summary import Summary, overall
from serve_app.backtest.windows import BoolArray, Windows

_ASKED = np.array(PINBALL_LEVELS)  # the default of requests; the limits act on the outer two


def cost(bands: FloatArray, windows: Windows, limits: BandsSection) -> list[Summary]:
    """Scores without limits, with the two widths that are configured, and with ticks as well.

    If ``min_interval_ticks`` is not set, the last row uses one tick.
    """
    fixed = limits.model_copy(update={"min_interval_ticks": None})
    ticks = limits.min_interval_ticks or 1.0
    own = limits.model_copy(update={"min_interval_ticks": ticks})
    widths = f"{limits.min_interval_width:g} to {limits.max_interval_width:g}"
    kinds = {
        "without limits": bands,
        widths: limited(bands, windows, fixed),
        f"{widths}, or {ticks:g} own ticks": limited(bands, windows, own),
    }
    return [
        {"limits": name, **_row(score_bands(some, windows.future), windows.moving)}
        for name, some in kinds.items()
    ]


def limited(bands: FloatArray, windows: Windows, limits: BandsSection) -> FloatArray:
    """Bands ``(B, H, Q)`` at ``LEVELS`` with the limits of a request for the default levels.

    The two outermost levels, which are not among them, are moved outwards where needed.
    """
    least = min_widths(windows.past, limits)
    inner = sanitize(bands[..., 1:-1], _ASKED, limits, least).y_prob
    low, up = np.minimum(bands[..., 0], inner[..., 0]), np.maximum(bands[..., -1], inner[..., -1])
    return np.concatenate([low[..., None], inner, up[..., None]], axis=-1)


def _row(scores: Scores, moving: BoolArray) -> Summary:
    every = np.ones(len(moving), dtype=bool)
    return {"all": overall(scores, every), "moving": overall(scores, moving)}
