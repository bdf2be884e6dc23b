"""Fits calibration on some windows, and applies it to held-out ones."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.calibration.conformal import Scored, adjust, fit, interval, update
from runner.calibration.conformal import score as score_outcomes
from runner.calibration.segments import segment_chain
from runner.calibration.state import ConformalState
from runner.config.conformal import ConformalSection
from runner.types import BASELINE_MODEL, FloatArray
from serve_app.backtest.scores import LEVELS, MEDIAN
from serve_app.backtest.windows import BoolArray, Windows, freq

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
        coverage = self.settings.target_coverage
        width = interval(answers.bands, LEVELS, coverage)
        return [
            segment_chain(
                self.settings.segments,
                self.settings.width_edges,
                liquidity=str(self.windows.labels["liquidity"][b]) or None,
                freq=freq(self.windows.step_s[b]),
                width=None if width is None else float(width[b, -1]),
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

    def followed(
        self, answers: Answers, state: ConformalState, where: BoolArray, actual: FloatArray
    ) -> FloatArray:
        """The bands, calibrated by a state that is updated with each outcome once it is known.

        The chosen windows are processed in time order, with actual values ``(B, H)``.
        """
        bands, chains = answers.bands.copy(), self.chains(answers)
        outcomes, informative = self._scores(answers, actual), self.informative(answers)
        ends = self.windows.origin_ts + actual.shape[1] * self.windows.step_s
        waiting: list[tuple[float, int]] = []
        rows = np.flatnonzero(where)
        for b in rows[np.argsort(self.windows.origin_ts[rows], kind="stable")].tolist():
            while waiting and waiting[0][0] <= self.windows.origin_ts[b]:
                _, past = heapq.heappop(waiting)
                one = Scored(answers.source, chains[past], outcomes[past : past + 1])
                state = update(state, [one], self.settings.online_rate)
            bands[b] = self._adjust(answers, state, chains[b], np.array([b]))[0]
            if informative[b]:
                heapq.heappush(waiting, (float(ends[b]), b))
        return bands

    def _adjust(
        self, answers: Answers, state: ConformalState, chain: Chain, rows: NDArray[np.intp]
    ) -> FloatArray:
        bands = answers.bands[rows]
        found = adjust(bands, LEVELS, state, answers.source, chain, self.settings.enough)
        return bands if found is None else found.paths

    def _scores(self, answers: Answers, actual: FloatArray) -> FloatArray:
        return score_outcomes(answers.bands, LEVELS, actual, self.settings.target_coverage)


def switched(first: FloatArray, then: FloatArray, windows: Windows, where: BoolArray) -> FloatArray:
    """Bands of one source before the median time of the chosen windows, of another one after it."""
    middle = np.median(windows.origin_ts[where])
    return np.where((windows.origin_ts < middle)[:, None, None], first, then)


def shaken(
    bands: FloatArray, windows: Windows, where: BoolArray, factor: float
) -> tuple[FloatArray, BoolArray]:
    """Outcomes ``(B, H)`` with an injected change of volatility, and the windows ``(B,)`` after it.

    After 30 % of the chosen windows prices end ``factor`` times as far from the median.
    """
    change = np.quantile(windows.origin_ts[where], 0.3)
    late = windows.origin_ts >= change
    median = bands[..., MEDIAN]
    far = np.clip(median + factor * (windows.future - median), 0, 1)
    return np.where(late[:, None], far, windows.future), late


def _by_chain(chains: Sequence[Chain], where: BoolArray) -> dict[Chain, NDArray[np.intp]]:
    rows: dict[Chain, list[int]] = {}
    for b in np.flatnonzero(where).tolist():
        rows.setdefault(chains[b], []).append(b)
    return {chain: np.array(found) for chain, found in rows.items()}
