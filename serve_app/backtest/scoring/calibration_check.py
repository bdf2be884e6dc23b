"""Checks calibration on held-out windows; returns plain values for the report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from runner.config.conformal import ConformalSection
from runner.types import FloatArray
from serve_app.backtest.scoring.held_out import Answers, Calibrator, shaken, switched
from serve_app.backtest.scoring.scores import INTERVALS, LEVELS, inside, score_bands
from serve_app.backtest.scoring.summary import FEWEST_POINTS, Summary, segments
from serve_app.backtest.windows import BoolArray, Split, Windows

TOLERANCE = 0.02  # overall; twice that for a step or a segment
SHAKE = 3.0  # factor of the injected change of volatility
BLOCK = 50  # scored windows in one value of the recovery


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutScores:
    """Scores of one kind of band in one split, on moving held-out windows."""

    coverage: float
    steps: FloatArray  # (H,)
    segments: dict[str, tuple[float, int]]  # coverage, points
    interval_score: float
    width: float


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
    found: dict[str, list[HeldOutScores]] = {}
    for split in splits:
        for name, bands, where in _variants(calibrator, sources, split):
            found.setdefault(name, []).append(_held_out_scores(bands, windows, where))
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
    shock = shaken(answers.bands, windows, held & windows.moving, SHAKE)
    chains = calibrator.chains(answers)
    runs = {
        "with": (calibrator.followed(answers, state, held, shock.actual), shock.actual),
        "without": (calibrator.followed(answers, state, held, windows.future), windows.future),
        "fixed": (calibrator.adjusted(answers, state, held), shock.actual),
    }
    after = np.flatnonzero(held & windows.moving & shock.late)
    after = after[np.argsort(windows.origin_ts[after], kind="stable")]
    names = np.array([chains[b][0] for b in after])
    rows = []
    for name in np.unique(names):
        rows_of = after[names == name]
        blocks = {
            run: _blocks(bands[rows_of], actual[rows_of]) for run, (bands, actual) in runs.items()
        }
        rows.append({"segment": str(name), "windows": len(rows_of), **blocks})
    return {"factor": SHAKE, "block": BLOCK, "rows": rows}


def _blocks(bands: FloatArray, actual: FloatArray) -> list[float]:
    """Coverage of consecutive blocks of windows; an incomplete last block is left out."""
    covered = _covered(bands, actual).mean(axis=1)
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


def _held_out_scores(bands: FloatArray, windows: Windows, where: BoolArray) -> HeldOutScores:
    rows = where & windows.moving
    scores = score_bands(bands[rows], windows.future[rows])
    covered = scores["covered_80"]
    inner = windows.take(rows)
    parts = {
        f"{by} {name}": (float(covered[part].mean()), int(part.sum()) * covered.shape[1])
        for by, name, part in segments(inner)
        if part.sum() * covered.shape[1] >= FEWEST_POINTS and by in ("platform", "price", "changes")
    }
    return HeldOutScores(
        float(covered.mean()),
        covered.mean(axis=0),
        parts,
        float(scores["interval_80"].mean()),
        float(scores["width_80"].mean()),
    )


def _row(name: str, by_split: Sequence[HeldOutScores], target: float) -> Summary:
    coverage = np.array([one.coverage for one in by_split])
    names = sorted({name for one in by_split for name in one.segments})
    parts = {
        part: [one.segments[part][0] for one in by_split if part in one.segments] for part in names
    }
    return {
        "name": name,
        "coverage": float(coverage.mean()),
        "coverage_least": float(coverage.min()),
        "coverage_most": float(coverage.max()),
        "within_tolerance": int((np.abs(coverage - target) <= TOLERANCE).sum()),
        "steps": np.mean([one.steps for one in by_split], axis=0).tolist(),
        "segments": {part: float(np.mean(values)) for part, values in parts.items()},
        "interval_score": float(np.mean([one.interval_score for one in by_split])),
        "width": float(np.mean([one.width for one in by_split])),
    }


def _covered(bands: FloatArray, actual: FloatArray) -> BoolArray:
    low, up = (bands[..., int(np.flatnonzero(level == LEVELS)[0])] for level in INTERVALS[0.8])
    return inside(low, up, actual)
