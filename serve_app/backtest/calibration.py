"""Checks calibration on held-out windows, and fits the state that a service begins with."""

from collections.abc import Iterator, Sequence

import numpy as np

from runner.calibration.state import EVERYTHING, ConformalState
from runner.config.conformal import ConformalSection
from runner.errors import ConfigError
from runner.types import FloatArray
from serve_app.backtest.held_out import Answers, Calibrator, shaken, switched
from serve_app.backtest.scores import INTERVALS, inside, score_bands
from serve_app.backtest.summary import FEWEST_POINTS, Summary, segments
from serve_app.backtest.windows import BoolArray, Split, Windows

TOLERANCE = 0.02  # overall; twice that for a step or a segment
SHAKE = 3.0  # factor of the injected change of volatility
BLOCK = 50  # scored windows in one value of the recovery
_SEGMENTS = ("platform", "price", "changes")


def check(
    sources: Sequence[Answers],
    windows: Windows,
    settings: ConformalSection,
    splits: Sequence[Split],
) -> Summary:
    """Coverage and interval score before and after, means over the splits.

    With two sources there is also a switch from the second to the first (model to baseline) in the
    middle of the held-out time, each with its own calibration.
    """
    calibrator = Calibrator(windows, settings)
    found: dict[str, list[Summary]] = {}
    for split in splits:
        for name, bands, where in _variants(calibrator, sources, split):
            found.setdefault(name, []).append(_scores(bands, windows.take(where & windows.moving)))
    rows = [_row(name, scores, settings.target_coverage) for name, scores in found.items()]
    return {"splits": len(splits), "target": settings.target_coverage, "rows": rows}


def recovery(
    answers: Answers, windows: Windows, settings: ConformalSection, split: Split
) -> Summary:
    """Coverage after an injected change of volatility, in blocks of scored windows by segment.

    ``without`` is the coverage of the same windows without the change, ``fixed`` the coverage with
    factors that are fitted once and not updated.
    """
    calibrator = Calibrator(windows, settings)
    state = calibrator.fitted([answers], split.fit)
    held = split.held_out & answers.usable
    actual, late = shaken(answers.bands, windows, held & windows.moving, SHAKE)
    chains = calibrator.chains(answers)
    unchanged = windows.future
    runs = {
        "with": _covered(calibrator.followed(answers, state, held, actual), actual),
        "without": _covered(calibrator.followed(answers, state, held, unchanged), unchanged),
        "fixed": _covered(calibrator.adjusted(answers, state, held), actual),
    }
    after = np.flatnonzero(held & windows.moving & late)
    after = after[np.argsort(windows.origin_ts[after], kind="stable")]
    names = np.array([chains[b][0] for b in after])
    rows = []
    for name in np.unique(names):
        rows_of = after[names == name]
        blocks = {run: _blocks(covered[rows_of]) for run, covered in runs.items()}
        rows.append({"segment": str(name), "windows": len(rows_of), **blocks})
    return {"factor": SHAKE, "block": BLOCK, "rows": rows}


def fit_state(
    sources: Sequence[Answers],
    windows: Windows,
    settings: ConformalSection,
    split: Split,
    *,
    keep_held_out: bool,
) -> tuple[ConformalState, Summary]:
    """The state fitted on all windows, and the check of one that is fitted on a part of them.

    With ``keep_held_out`` the state is fitted without the held-out part as well.

    Raises:
        ConfigError: too few moving windows.
    """
    for answers in sources:
        _check_enough(answers, windows, split, settings.min_samples)
    where = split.fit if keep_held_out else np.ones(len(windows), dtype=bool)
    state = Calibrator(windows, settings).fitted(sources, where)
    return state, check(sources, windows, settings, [split])


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


def _covered(bands: FloatArray, actual: FloatArray) -> FloatArray:
    """``(B,)`` share of the steps whose outcome is in the 80 % band."""
    low, up = (bands[..., place] for place in INTERVALS[0.8])
    share: FloatArray = inside(low, up, actual).mean(axis=1)
    return share


def _blocks(covered: FloatArray) -> list[float]:
    """Means of consecutive blocks of windows; an incomplete last block is left out."""
    whole = len(covered) // BLOCK * BLOCK
    blocks: list[float] = covered[:whole].reshape(-1, BLOCK).mean(axis=1).tolist()
    return blocks


def _variants(
    calibrator: Calibrator, sources: Sequence[Answers], split: Split
) -> Iterator[tuple[str, FloatArray, BoolArray]]:
    """Name, bands and scored windows of each comparison in one split."""
    state = calibrator.fitted(sources, split.fit)
    calibrated = []
    for answers in sources:
        where = split.held_out & answers.usable
        yield f"{answers.source}, before", answers.bands, where
        bands = calibrator.adjusted(answers, state, where)
        yield f"{answers.source}, calibrated", bands, where
        calibrated.append(bands)
    if len(sources) == 2:
        where = split.held_out & sources[0].usable & sources[1].usable
        name = f"{sources[1].source}, then {sources[0].source}, calibrated"
        windows = calibrator.windows
        yield name, switched(calibrated[1], calibrated[0], windows, where & windows.moving), where


def _scores(bands: FloatArray, windows: Windows) -> Summary:
    scores = score_bands(bands, windows.future)
    covered = scores["covered_80"]
    return {
        "coverage": covered.mean(),
        "steps": covered.mean(axis=0),
        "segments": {
            f"{by} {name}": covered[part].mean()
            for by, name, part in segments(windows)
            if part.sum() * covered.shape[1] >= FEWEST_POINTS and by in _SEGMENTS
        },
        "interval_score": scores["interval_80"].mean(),
        "width": scores["width_80"].mean(),
    }


def _row(name: str, by_split: Sequence[Summary], target: float) -> Summary:
    coverage = np.array([one["coverage"] for one in by_split])
    in_segments: dict[str, list[float]] = {}
    for one in by_split:
        for segment, value in one["segments"].items():
            in_segments.setdefault(segment, []).append(value)
    return {
        "name": name,
        "coverage": float(coverage.mean()),
        "coverage_least": float(coverage.min()),
        "coverage_most": float(coverage.max()),
        "within_tolerance": int((np.abs(coverage - target) <= TOLERANCE).sum()),
        "steps": np.mean([one["steps"] for one in by_split], axis=0).tolist(),
        "segments": {part: float(np.mean(in_segments[part])) for part in sorted(in_segments)},
        "interval_score": float(np.mean([one["interval_score"] for one in by_split])),
        "width": float(np.mean([one["width"] for one in by_split])),
    }
