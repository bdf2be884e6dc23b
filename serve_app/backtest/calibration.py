"""Calibration of bands: fitted on some windows, checked on held-out ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.calibration.conformal import Scored, adjust, fit, interval_of
from runner.calibration.conformal import score as score_outcomes
from runner.calibration.state import EVERYTHING, ConformalState, segment_chain
from runner.config.conformal import ConformalSection
from runner.errors import ConfigError
from runner.types import BASELINE_MODEL, FloatArray
from serve_app.backtest.scores import (
    FEWEST_POINTS,
    LEVELS,
    Summary,
    score_bands,
    segments,
)
from serve_app.backtest.windows import BoolArray, Split, Windows, freq

TOLERANCE = 0.02  # overall; twice that for a step or a segment
_SEGMENTS = ("platform", "price", "changes")

Chain = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Bands of one source for every window, before width limits."""

    source: str  # key of their calibration: a model's runtime name, or ``ewma``
    bands: FloatArray  # (B, H, Q) at LEVELS
    usable: BoolArray  # (B,) False where another model answered, or the band was narrowed


def baseline_answers(bands: FloatArray) -> Answers:
    """The baseline's bands as input of calibration."""
    return Answers(BASELINE_MODEL, bands, np.ones(len(bands), dtype=bool))


@dataclass(frozen=True, slots=True, eq=False)
class Calibrator:
    """Calibration of bands on given windows."""

    windows: Windows
    settings: ConformalSection

    def chains(self, answers: Answers) -> list[Chain]:
        """The segments of every window, the narrowest first."""
        intervals = interval_of(answers.bands, LEVELS, self.settings.target_coverage)
        return [
            segment_chain(
                self.settings,
                str(self.windows.labels["liquidity"][b]) or None,
                freq(self.windows.step_s[b]),
                None if intervals is None else intervals[b],
            )
            for b in range(len(self.windows))
        ]

    def informative(self, answers: Answers) -> BoolArray:
        """``(B,)``: usable windows with at least ``min_changes`` changes in their past."""
        return answers.usable & (self.windows.changes >= self.settings.min_changes)

    def fitted(self, sources: Sequence[Answers], where: BoolArray) -> ConformalState:
        """The state fitted on the informative windows among ``where``."""
        scored = []
        for answers in sources:
            outcomes = self._scores(answers, self.windows.future)
            informative = where & self.informative(answers)
            scored += [
                Scored(answers.source, chain, outcomes[rows])
                for chain, rows in _by_chain(self.chains(answers), informative).items()
            ]
        settings = self.settings
        return fit(scored, settings.target_coverage, settings.shrink_samples)

    def adjusted(self, answers: Answers, state: ConformalState, where: BoolArray) -> FloatArray:
        """The calibrated bands; unchanged where the state has too few samples."""
        bands = answers.bands.copy()
        for chain, rows in _by_chain(self.chains(answers), where).items():
            bands[rows] = self._adjust(answers, state, chain, rows)
        return bands

    def _adjust(
        self, answers: Answers, state: ConformalState, chain: Chain, rows: NDArray[np.intp]
    ) -> FloatArray:
        bands = answers.bands[rows]
        found = adjust(bands, LEVELS, state, answers.source, chain, self.settings)
        return bands if found is None else found.paths

    def _scores(self, answers: Answers, actual: FloatArray) -> FloatArray:
        return score_outcomes(answers.bands, LEVELS, actual, self.settings.target_coverage)


def _by_chain(chains: Sequence[Chain], where: BoolArray) -> dict[Chain, NDArray[np.intp]]:
    rows: dict[Chain, list[int]] = {}
    for b in np.flatnonzero(where).tolist():
        rows.setdefault(chains[b], []).append(b)
    return {chain: np.array(found) for chain, found in rows.items()}


def check(calibrator: Calibrator, sources: Sequence[Answers], splits: Sequence[Split]) -> Summary:
    """Coverage and interval score before and after, means over the splits."""
    windows, target = calibrator.windows, calibrator.settings.target_coverage
    found: dict[str, list[Summary]] = {}
    for split in splits:
        for name, bands, where in _variants(calibrator, sources, split):
            rows = where & windows.moving
            found.setdefault(name, []).append(_scores(bands[rows], windows.take(rows)))
    table = [_row(name, scores, target) for name, scores in found.items()]
    return {"splits": len(splits), "target": target, "rows": table}


def fit_state(
    calibrator: Calibrator, sources: Sequence[Answers], split: Split, *, keep_held_out: bool
) -> tuple[ConformalState, Summary]:
    """The state fitted on all windows, and the check of one that is fitted on a part of them.

    With ``keep_held_out`` the state is fitted without the held-out part as well.

    Raises:
        ConfigError: too few moving windows.
    """
    windows, min_samples = calibrator.windows, calibrator.settings.min_samples
    for answers in sources:
        usable = answers.usable & windows.moving
        for part, where in (("to fit", split.fit), ("to check", split.held_out)):
            found = int((usable & where).sum())
            if found < min_samples:
                raise ConfigError(
                    f"{answers.source}: {found} forecasts on moving markets {part} are too few, "
                    f"conformal.min_samples is {min_samples}; use more data or another --holdout."
                )
    chosen = split.fit if keep_held_out else np.ones(len(windows), dtype=bool)
    return calibrator.fitted(sources, chosen), check(calibrator, sources, [split])


def sample_sizes(state: ConformalState) -> list[tuple[str, str, int]]:
    """Source, segment and smallest sample size over the steps; the segment of everything first."""
    return [
        (source, segment, int(tracks[segment].sample_size.min()))
        for source, tracks in sorted(state.tracks.items())
        for segment in sorted(tracks, key=lambda name: (name != EVERYTHING, name))
    ]


def _variants(
    calibrator: Calibrator, sources: Sequence[Answers], split: Split
) -> Iterator[tuple[str, FloatArray, BoolArray]]:
    """Name, bands and scored windows of each comparison in one split."""
    state = calibrator.fitted(sources, split.fit)
    for answers in sources:
        where = split.held_out & answers.usable
        yield f"{answers.source}, before", answers.bands, where
        yield f"{answers.source}, calibrated", calibrator.adjusted(answers, state, where), where


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
    import pandas as pd  # of an optional extra

    coverage = np.array([one["coverage"] for one in by_split])
    in_segments = pd.DataFrame([one["segments"] for one in by_split]).mean().sort_index()
    return {
        "name": name,
        "coverage": float(coverage.mean()),
        "coverage_least": float(coverage.min()),
        "coverage_most": float(coverage.max()),
        "within_tolerance": int((np.abs(coverage - target) <= TOLERANCE).sum()),
        "steps": np.mean([one["steps"] for one in by_split], axis=0).tolist(),
        "segments": in_segments.to_dict(),
        "interval_score": float(np.mean([one["interval_score"] for one in by_split])),
        "width": float(np.mean([one["width"] for one in by_split])),
    }
