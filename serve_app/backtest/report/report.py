"""The whole result of a backtest as one value that JSON can hold."""

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
    """What a running service answered, window by window; see `service.ask_all`."""

    model: str  # as it was asked for
    arrays: Mapping[str, NDArray[Any]]

    @property
    def runtime_name(self) -> str:
        """Who answered most windows that did not fall back."""
        own = self.arrays["source"][self.arrays["reason"] == ""]
        names, counts = np.unique(own, return_counts=True)
        return str(names[counts.argmax()]) if len(names) else self.model

    @property
    def answers(self) -> Answers:
        """The model's own bands; where something else answered they are not usable."""
        usable = (self.arrays["source"] == self.runtime_name) & ~self.arrays["narrowed"]
        return Answers(self.runtime_name, self.arrays["bands"], usable)

    def kinds(self) -> dict[str, FloatArray]:
        """Bands by the name they are reported under; calibrated ones where the service had any."""
        bands, calibrated = self.arrays["bands"], self.arrays["conformal"]
        there = np.isfinite(calibrated).all(axis=(1, 2))
        found = {f"{self.model} (service)": bands}
        if there.any():
            mixed = np.where(there[:, None, None], calibrated, bands)
            found[f"{self.model} (service, conformal)"] = mixed
        return found

    def told(self) -> Summary:
        """Who answered how many windows, and why not the model."""
        sources, counts = np.unique(self.arrays["source"], return_counts=True)
        reasons, times = np.unique(self.arrays["reason"], return_counts=True)
        calibrated = np.isfinite(self.arrays["conformal"]).all(axis=(1, 2))
        return {
            "asked_for": self.model,
            "answered_by": dict(zip(sources.tolist(), counts.tolist(), strict=True)),
            "fallback_reasons": {
                reason: count
                for reason, count in zip(reasons.tolist(), times.tolist(), strict=True)
                if reason
            },
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
        windows: what was forecast.
        bands: by source; the baseline is among them.
        served: what a service answered.
        splits: for the check of calibration.
        config: width limits and calibration as the service has them.
        settings: how the backtest was run.
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
        "service": served.told() if served else None,
        "calibration": _calibration(windows, bands[BASELINE], served, splits, config),
    }


def baseline_answers(bands: FloatArray) -> Answers:
    """The baseline's bands as calibration takes them."""
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
    """By how much each source's pinball loss differs from the flat recipe's: -0.35 is 35 % less."""
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
    """None where a split has too little on one of its sides."""
    needed = config.conformal.min_samples
    moving = windows.moving
    if any(min((s.fit & moving).sum(), (s.held_out & moving).sum()) < needed for s in splits):
        return None
    answers = baseline_answers(baseline)
    model = [served.answers] if served and (served.answers.usable & moving).sum() > needed else []
    found = calibration_check.check([answers, *model], windows, config.conformal, splits)
    found["recovery"] = calibration_check.recovery(answers, windows, config.conformal, splits[0])
    return found
