"""A conformal state fitted on a backtest: judged on windows that were held out, then written."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runner.calibration.state import EVERYTHING, ConformalState, save_state
from runner.config.loading import Config
from runner.errors import ConfigError
from runner.types import FloatArray
from serve_app.backtest.forecasters.forecasters import BASELINE
from serve_app.backtest.report.report import Served, baseline_answers
from serve_app.backtest.scoring.calibration_check import check
from serve_app.backtest.scoring.held_out import Answers, Calibrator
from serve_app.backtest.scoring.summary import Summary
from serve_app.backtest.windows import Split, Windows


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A state, and the scores of a state fitted on one part of the windows, on the other part."""

    state: ConformalState
    check: Summary


def fit_state(
    windows: Windows,
    bands: Mapping[str, FloatArray],
    served: Served | None,
    split: Split,
    config: Config,
    *,
    keep_held_out: bool,
) -> Fitted:
    """Fits the state of the baseline, and of the model if a service was used.

    Args:
        windows: the forecast windows.
        bands: bands by source, with the baseline.
        served: answers of the service for the model.
        split: the check is fitted on one part and scored on the other.
        config: coverage, segments and sample sizes.
        keep_held_out: fit the state without the held-out part as well.

    Raises:
        ConfigError: too few moving windows.
    """
    sources = [baseline_answers(bands[BASELINE]), *([served.answers] if served else [])]
    for answers in sources:
        _check_enough(answers, windows, split, config.conformal.min_samples)
    where = split.fit if keep_held_out else np.ones(len(windows), dtype=bool)
    state = Calibrator(windows, config.conformal).fitted(sources, where)
    return Fitted(state, check(sources, windows, config.conformal, [split]))


def write_state(path: Path, state: ConformalState) -> None:
    """Writes the state to a file atomically; creates its folder.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_state(path, state)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be written ({exc.strerror}).") from exc


def sample_sizes(state: ConformalState) -> list[tuple[str, str, int]]:
    """Source, segment and smallest sample size over the steps; the segment of everything first."""
    return [
        (source, segment, int(tracks[segment].sample_size.min()))
        for source, tracks in sorted(state.tracks.items())
        for segment in sorted(tracks, key=lambda name: (name != EVERYTHING, name))
    ]


def _check_enough(answers: Answers, windows: Windows, split: Split, min_samples: int) -> None:
    usable = answers.usable & windows.moving
    for part, where in (("to fit", split.fit), ("to check", split.held_out)):
        found = int((usable & where).sum())
        if found < min_samples:
            raise ConfigError(
                f"{answers.source}: {found} forecasts on moving markets {part} are too few, "
                f"conformal.min_samples is {min_samples}; use more data or another --holdout."
            )
