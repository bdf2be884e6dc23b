"""What the width limits of answers cost: the same bands with them and without."""

import numpy as np

from runner.bands import min_widths, sanitize
from runner.config.sections import BandsSection
from runner.types import FloatArray
from serve_app.backtest.scoring.scores import PINBALL_LEVELS, Scores, score_bands
from serve_app.backtest.scoring.summary import Summary, overall
from serve_app.backtest.windows import BoolArray, Windows

_ASKED = np.array(PINBALL_LEVELS)  # as requests ask by default: the limits act on the outer two


def cost(bands: FloatArray, windows: Windows, limits: BandsSection) -> list[Summary]:
    """Scores without limits, with the two widths that are configured, and with ticks as well.

    Where ``min_interval_ticks`` is not set, what one tick would gain is told.
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
    every = np.ones(len(windows), dtype=bool)
    return [
        {"limits": name, **_row(score_bands(some, windows.future), every, windows.moving)}
        for name, some in kinds.items()
    ]


def limited(bands: FloatArray, windows: Windows, limits: BandsSection) -> FloatArray:
    """Bands ``(B, H, Q)`` at ``LEVELS`` as they leave when the default levels are asked for.

    The outermost two, which nobody asked for, make room for the others.
    """
    least = min_widths(windows.past, limits)
    inner = sanitize(bands[..., 1:-1], _ASKED, limits, least).y_prob
    low, up = np.minimum(bands[..., 0], inner[..., 0]), np.maximum(bands[..., -1], inner[..., -1])
    return np.concatenate([low[..., None], inner, up[..., None]], axis=-1)


def _row(scores: Scores, every: BoolArray, moving: BoolArray) -> Summary:
    return {"all": overall(scores, every), "moving": overall(scores, moving)}
