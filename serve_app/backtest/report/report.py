"""The whole result of a backtest as one value that JSON can hold."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.config.loading import Config
from runner.types import BASELINE_MODEL, FloatArray
from serve_app.backtest.forecasters.forecasters import BASELINE
from serve_app.backtest.scoring import calibration_check, examples, limits
from serve_app.backtest.scoring.held_out import Answers
from serve_app.backtest.scoring.summary import Summary, summarise
from serve_app.backtest.windows import Split, Windows

FLAT = "flat recipe"


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """The answers of a running service for all windows; see `service.ask_all`."""

    model: str  # as requested
    arrays: Mapping[str, NDArray[Any]]

    @property
    def runtime_name(self) -> str:
        """The model that answered most windows without a fallback."""
        own = self.arrays["source"][self.arrays["reason"] == ""]
        names, counts = np.unique(own, return_counts=True)
        return str(names[counts.argmax()]) if len(names) else self.model

    @property
    def answers(self) -> Answers:
        """The model's bands; usable where this model answered and its band was not narrowed."""
        usable = (self.arrays["source"] == self.runtime_name) & ~self.arrays["narrowed"]
        return Answers(self.runtime_name, self.arrays["bands"], usable)

    def kinds(self) -> dict[str, FloatArray]:
        """Bands by the name in the report; with calibrated ones if the service sent any."""
        bands, calibrated = self.arrays["bands"], self.arrays["conformal"]
        there = np.isfinite(calibrated).all(axis=(1, 2))
        found = {f"{self.model} (service)": bands}
        if there.any():
            mixed = np.where(there[:, None, None], calibrated, bands)
            found[f"{self.model} (service, conformal)"] = mixed
        return found

    def counts(self) -> Summary:
        """Number of windows by answering model and by fallback reason."""
        calibrated = np.isfinite(self.arrays["conformal"]).all(axis=(1, 2))
        return {
            "asked_for": self.model,
            "answered_by": dict(Counter(self.arrays["source"].tolist())),
            "fallback_reasons": dict(Counter(filter(None, self.arrays["reason"].tolist()))),
            "calibrated_windows": int(calibrated.sum()),
        }


def build(
    data: Path,
    windows: Windows,
    bands: Mapping[str, FloatArray],
    served: Served | None,
    splits: Sequence[Split],
    config: Config,
    settings: Mapping[str, Any],
) -> Summary:
    """Everything that the table, the JSON file and the page show.

    Args:
        data: the file, for its name.
        windows: the forecast windows.
        bands: by source; the baseline is among them.
        served: the answers of a service.
        splits: for the check of calibration.
        config: the service's width limits and calibration.
        settings: the options of the run.
    """
    every = {**bands, **(served.kinds() if served else {})}
    sources = {name: summarise(one, windows) for name, one in every.items()}
    return {
        "data": _about(data, windows),
        "settings": dict(settings),
        "sources": sources,
        "against_flat": _against_flat(sources),
        "width_limits": limits.cost(bands[BASELINE], windows, config.bands),
        "examples": examples.pick(windows, bands[BASELINE]),
        "service": served.counts() if served else None,
        "calibration": _calibration(windows, bands[BASELINE], served, splits, config),
    }


def baseline_answers(bands: FloatArray) -> Answers:
    """The baseline's bands as input of calibration."""
    return Answers(BASELINE_MODEL, bands, np.ones(len(bands), dtype=bool))


def _about(data: Path, windows: Windows) -> Summary:
    return {
        "file": data.name,
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
    windows: Windows,
    baseline: FloatArray,
    served: Served | None,
    splits: Sequence[Split],
    config: Config,
) -> Summary | None:
    """None if a part of a split has too few moving windows."""
    needed = config.conformal.min_samples
    moving = windows.moving
    if any(min((s.fit & moving).sum(), (s.held_out & moving).sum()) < needed for s in splits):
        return None
    answers = baseline_answers(baseline)
    model = [served.answers] if served and (served.answers.usable & moving).sum() > needed else []
    found = calibration_check.check([answers, *model], windows, config.conformal, splits)
    found["recovery"] = calibration_check.recovery(answers, windows, config.conformal, splits[0])
    return found
