"""The whole result of a backtest as one value that JSON can hold."""

from collections.abc import Mapping, Sequence

import numpy as np

from runner.bands import min_widths, sanitize
from runner.config.loading import Config
from runner.config.sections import BandsSection
from runner.types import FloatArray
from serve_app.backtest.calibration import Calibrator, baseline_answers, check
from serve_app.backtest.forecasters import BASELINE, FLAT
from serve_app.backtest.scores import LEVELS, PINBALL, Summary, overall, score_bands, summarise
from serve_app.backtest.service_bands import Served
from serve_app.backtest.windows import Split, Windows


def build(
    config: Config,
    windows: Windows,
    bands: Mapping[str, FloatArray],
    served: Served | None,
    splits: Sequence[Split],
) -> Summary:
    """What the tables, the JSON file and the page show of the data; ``bands`` are by source."""
    every = {**bands, **(served.kinds() if served else {})}
    sources = {name: summarise(one, windows) for name, one in every.items()}
    baseline, calibrator = bands[BASELINE], Calibrator(windows, config.conformal)
    return {
        "data": _about(windows),
        "sources": sources,
        "against_flat": _against_flat(sources),
        "width_limits": cost_of_limits(baseline, windows, config.bands),
        "service": served.counts() if served else None,
        "calibration": _calibration(calibrator, baseline, served, splits),
    }


def cost_of_limits(bands: FloatArray, windows: Windows, limits: BandsSection) -> list[Summary]:
    """Scores without limits, with the two widths that are configured, and with ticks as well.

    If ``min_interval_ticks`` is not set, the last row uses one tick.
    """
    ticks = limits.min_interval_ticks or 1.0
    fixed = limits.model_copy(update={"min_interval_ticks": None})
    own = limits.model_copy(update={"min_interval_ticks": ticks})
    widths = f"{limits.min_interval_width:g} to {limits.max_interval_width:g}"
    kinds = {
        "without limits": bands,
        widths: limited(bands, windows, fixed),
        f"{widths}, or {ticks:g} own ticks": limited(bands, windows, own),
    }
    every, rows = np.ones(len(windows), dtype=bool), []
    for name, some in kinds.items():
        scores = score_bands(some, windows.future)
        moving = overall(scores, windows.moving)
        rows.append({"limits": name, "all": overall(scores, every), "moving": moving})
    return rows


def limited(bands: FloatArray, windows: Windows, limits: BandsSection) -> FloatArray:
    """Bands ``(B, H, Q)`` at ``LEVELS`` with the limits of a request for the default levels.

    The two outermost levels, which are not among them, are moved outwards where needed.
    """
    least = min_widths(windows.past, limits)
    inner = sanitize(bands[..., PINBALL], LEVELS[PINBALL], limits, least).y_prob
    low, up = np.minimum(bands[..., 0], inner[..., 0]), np.maximum(bands[..., -1], inner[..., -1])
    return np.concatenate([low[..., None], inner, up[..., None]], axis=-1)


def _about(windows: Windows) -> Summary:
    return {
        "windows": len(windows),
        "moving_windows": int(windows.moving.sum()),
        "points": int(windows.future.size),
        "markets": len(np.unique(windows.labels["market_id"])),
        "events": len(np.unique(windows.labels["event"])),
        "from": float(windows.origin_ts.min()),
        "to": float(windows.origin_ts.max()),
        "unchanged_fraction": float(np.mean(np.diff(windows.past, axis=1) == 0)),
    }


def _against_flat(sources: Mapping[str, Summary]) -> dict[str, float]:
    """Relative difference of pinball loss to the flat recipe: -0.35 is 35 % less."""
    if FLAT not in sources:
        return {}
    flat = sources[FLAT]["all"]["pinball"]
    return {name: one["all"]["pinball"] / flat - 1 for name, one in sources.items()}


def _calibration(
    calibrator: Calibrator, baseline: FloatArray, served: Served | None, splits: Sequence[Split]
) -> Summary | None:
    """None if a part of a split has too few moving windows."""
    needed, moving = calibrator.settings.min_samples, calibrator.windows.moving
    if any(min((s.fit & moving).sum(), (s.held_out & moving).sum()) < needed for s in splits):
        return None
    answers = baseline_answers(baseline)
    model = [served.answers] if served and (served.answers.usable & moving).sum() > needed else []
    return check(calibrator, [answers, *model], splits)
