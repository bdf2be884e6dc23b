"""Conformal calibration of bands: score them, learn factors from the scores, adjust later bands.

A band is split at its centre and each half is multiplied by a factor of its own, learned per
source, segment and step:

    score  s_low = (centre - y) / (centre - q_low)     s_up = (y - centre) / (q_up - centre)
    adjust q'    = centre - f_low (centre - q)         q'   = centre + f_up (q - centre)

so a score over 1 is an outcome outside the band, and ``f`` covers every outcome with a score of at
most ``f``. Every level of a path is moved, in order; the centre stays. An outcome on the other side
of the centre has score 0. docs/calibration.md has the reasons and what is guaranteed.

* Fit, split conformal: ``f`` is the k-th smallest of n scores, k = ceil((n + 1) (1 - a)), with
  a = (1 - coverage) / 2 on each side. Romano, Patterson, Candes, "Conformalized Quantile
  Regression", NeurIPS 2019, theorem 2; in units of the half-width: Sesia, Candes, "A comparison of
  some conformal quantile regression methods", Stat 9(1), 2020 (CQR-r).
* Update, quantile tracking: f <- f exp(rate (missed - a)) after each outcome. Gibbs, Candes,
  "Adaptive Conformal Inference Under Distribution Shift", NeurIPS 2021; Angelopoulos, Candes,
  Tibshirani, "Conformal PID Control for Time Series Prediction", NeurIPS 2023, section 2.
* Segments: each category has its own factors. Vovk, Gammerman, Shafer, "Algorithmic Learning in a
  Random World", 2005, section 4.5; Bostrom, Johansson, "Mondrian conformal regressors", COPA 2020.
* Shrinking of fitted factors towards the next wider segment's: log f <- w log f + (1 - w)
  log f_wider, w = n / (n + shrink_samples). Efron, Morris, "Data analysis using Stein's estimator
  and its generalizations", JASA 70(350), 1975.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from runner.calibration.state import (
    LARGEST_FACTOR,
    SMALLEST_FACTOR,
    ConformalState,
    StepFactors,
    tails,
)
from runner.config.conformal import ConformalSection
from runner.types import FloatArray

_ROUNDING = 1e-12  # differences below this come from arithmetic, not from the market
_DIGITS = 1e6  # factors are rounded up: outcomes repeat on ticks, and an equal one must be inside


@dataclass(frozen=True, slots=True, eq=False)
class Adjusted:
    """Calibrated paths ``(B, H, Q)``, and their basis."""

    paths: FloatArray
    target_coverage: float
    sample_size: int  # number of outcomes of the last step
    segment_used: str


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Scores ``(N, H, 2)`` of forecasts from one source, oldest first; NaN: outcome not known.

    All of ``segments`` learn from them, the narrowest first.
    """

    source: str
    segments: tuple[str, ...]
    scores: FloatArray


def adjust(
    paths: FloatArray,
    levels: FloatArray,
    state: ConformalState,
    source: str,
    segments: Sequence[str],
    settings: ConformalSection,
) -> Adjusted | None:
    """The paths adjusted by the factors of their source.

    None if the source has too few outcomes, or the paths have no centre.

    Args:
        paths: ``(B, H, Q)`` probabilities, ordered along Q.
        levels: ``(Q,)`` ascending in (0, 1).
        state: the learned factors.
        source: of the paths.
        segments: in which to search, the narrowest first.
        settings: how many outcomes every step needs.
    """
    steps = paths.shape[1]
    found, centre = state.find(source, segments, steps, settings), _at(paths, levels, 0.5)
    if found is None or centre is None:
        return None
    name, track = found
    factors = track.factors[:steps, (levels > 0.5).astype(int)]  # (H, Q)
    middle = centre[..., None]
    stretched = np.clip(middle + factors * (paths - middle), 0.0, 1.0)
    return Adjusted(stretched, state.target_coverage, int(track.sample_size[steps - 1]), name)


def score(
    paths: FloatArray, levels: FloatArray, actual: FloatArray, target_coverage: float
) -> FloatArray:
    """Distances ``(B, H, 2)`` of outcomes below and above the centre, in halves of the interval.

    ``paths`` ``(B, H, Q)`` are not adjusted, ``actual`` ``(B, H)`` is NaN where unknown. A score is
    infinite where the half has no width, NaN where something is missing.
    """
    found = interval_of(paths, levels, target_coverage)
    return np.full((*actual.shape, 2), np.nan) if found is None else interval_scores(found, actual)


def interval_of(paths: FloatArray, levels: FloatArray, target_coverage: float) -> FloatArray | None:
    """Lower end, centre and upper end ``(..., H, 3)`` of an interval; None where one is missing."""
    low, up = (_level(paths, levels, tail) for tail in tails(target_coverage))
    centre = _at(paths, levels, 0.5)
    return None if low is None or up is None or centre is None else np.stack([low, centre, up], -1)


def interval_scores(found: FloatArray, actual: FloatArray) -> FloatArray:
    """Scores ``(..., 2)`` of intervals ``(..., 3)`` against outcomes ``(...)``."""
    low, centre, up = np.moveaxis(found, -1, 0)
    away = np.stack([centre - actual, actual - centre], axis=-1)
    half = np.stack([centre - low, up - centre], axis=-1)
    away = np.where(away > _ROUNDING, away, np.where(np.isnan(away), np.nan, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        scores: FloatArray = np.where(away == 0, 0.0, away / half)
    return scores


def has_moved(y_prob: FloatArray, min_changes: int) -> bool:
    """Whether a window has enough changes: a constant price says nothing about a width."""
    known = y_prob[np.isfinite(y_prob)]
    return int(np.count_nonzero(np.diff(known))) >= min_changes


def fit(
    scored: Iterable[Scored], target_coverage: float, shrink_samples: int = 0
) -> ConformalState:
    """A new state by split conformal; ``shrink_samples`` is the weight of the wider segment."""
    pools: dict[str, dict[Chain, list[FloatArray]]] = {}
    for one in scored:
        for place in range(len(one.segments)):
            chain = one.segments[place:]
            pools.setdefault(one.source, {}).setdefault(chain, []).append(one.scores)
    tail, _ = tails(target_coverage)
    tracks: dict[str, dict[str, StepFactors]] = {source: {} for source in pools}
    for source, by_chain in pools.items():
        for chain in sorted(by_chain, key=len):  # the wider ones first
            wider = tracks[source].get(chain[1]) if len(chain) > 1 else None
            tracks[source][chain[0]] = _fit_track(by_chain[chain], tail, wider, shrink_samples)
    return ConformalState(target_coverage, tracks)


def update(state: ConformalState, scored: Iterable[Scored], rate: float) -> ConformalState:
    """The state after more outcomes, by quantile tracking.

    A new segment starts from the factors of the next wider one, with no outcomes.
    """
    tail, _ = tails(state.target_coverage)
    tracks: dict[str, Mapping[str, StepFactors]] = dict(state.tracks)
    for one in scored:
        known = dict(tracks.get(one.source, {}))
        start = _INITIAL
        for segment in reversed(one.segments):
            start = known.get(segment, StepFactors(start.factors, np.zeros_like(start.sample_size)))
            known[segment] = _follow(start, one.scores, tail, rate)
        tracks[one.source] = known
    return ConformalState(state.target_coverage, tracks)


def rank(samples: int, tail: float) -> int:
    """The position of the quantile among the sorted scores; over ``samples`` if these are too few.

    >>> rank(99, 0.1), rank(9, 0.1), rank(8, 0.1)
    (90, 9, 9)
    """
    return int(np.ceil((samples + 1) * (1 - tail) - _ROUNDING))


Chain = tuple[str, ...]  # a segment and all wider ones
_INITIAL = StepFactors(np.ones((1, 2)), np.zeros(1, dtype=np.int64))


def _level(paths: FloatArray, levels: FloatArray, level: float) -> FloatArray | None:
    """The path ``(B, H)`` of a level, or None if it is not in ``levels``."""
    found = np.flatnonzero(np.abs(levels - level) < _ROUNDING)
    return paths[..., found[0]] if found.size else None


def _at(paths: FloatArray, levels: FloatArray, level: float) -> FloatArray | None:
    """The path ``(B, H)`` of a level, interpolated if it is not in ``levels``."""
    exact = _level(paths, levels, level)
    if exact is not None:
        return exact
    right = int(np.searchsorted(levels, level))
    if right in (0, len(levels)):
        return None
    share = (level - levels[right - 1]) / (levels[right] - levels[right - 1])
    below, above = paths[..., right - 1], paths[..., right]
    between: FloatArray = np.minimum(below + share * (above - below), above)  # never past them
    return between


def _fit_track(
    pool: Sequence[FloatArray], tail: float, wider: StepFactors | None, shrink_samples: int
) -> StepFactors:
    """Factors from one segment's scores, shrunk towards the wider segment's.

    Where no finite factor covers enough of the scores, the wider segment's is used, or 1.
    """
    steps = max(scores.shape[1] for scores in pool)
    scores = np.concatenate([_pad(part, steps) for part in pool])  # (N, H, 2)
    size = (~np.isnan(scores[..., 0])).sum(axis=0)  # (H,)
    ranks = np.array([rank(samples, tail) for samples in size])
    beyond = np.full((1, steps, 2), np.inf)
    at = np.where(ranks <= size, ranks - 1, len(scores))[None, :, None]
    reached = np.take_along_axis(np.vstack([np.sort(scores, axis=0), beyond]), at, axis=0)[0]
    beside = np.ones((steps, 2)) if wider is None else wider.factors[:steps]
    rounded = (np.floor(reached * _DIGITS) + 1) / _DIGITS
    own = _bounded(np.where(np.isfinite(reached), rounded, beside))
    weight = np.ones(steps) if wider is None else size / np.maximum(size + shrink_samples, 1)
    drawn = beside * (own / beside) ** weight[:, None]
    return StepFactors(_bounded(drawn), size)


def _follow(track: StepFactors, scores: FloatArray, tail: float, rate: float) -> StepFactors:
    steps = max(scores.shape[1], len(track.factors))
    new = steps - len(track.factors)  # they start from the last known step
    factors = np.pad(track.factors, ((0, new), (0, 0)), mode="edge")
    size = np.pad(track.sample_size, (0, new))
    for outcome in _pad(scores, steps):
        known = ~np.isnan(outcome)  # (H, 2)
        change = np.exp(rate * ((outcome > factors) - tail))
        factors = np.where(known, _bounded(factors * change), factors)
        size = size + known[:, 0]
    return StepFactors(factors, size)


def _pad(scores: FloatArray, steps: int) -> FloatArray:
    return np.pad(scores, ((0, 0), (0, steps - scores.shape[1]), (0, 0)), constant_values=np.nan)


def _bounded(factors: FloatArray) -> FloatArray:
    return np.clip(factors, SMALLEST_FACTOR, LARGEST_FACTOR)
