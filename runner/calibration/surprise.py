"""How unusual a price is, given its forecast: its p-value among the prices after earlier forecasts.

Prices of different markets are compared by their signed score: the distance from the centre of the
forecast, in halves of its interval, negative below the centre. The band of a market that hardly
moves has no width, so a half is `LEAST_HALF_WIDTH` at least. For each segment and each of a few
groups of steps a histogram of scores is kept, in which every new outcome lowers the weight of the
earlier ones by 1/`MEMORY_POINTS`. With F the share of scores up to a bin, and F- the share of those
before it,

    p = min(1, 2 min(F(s), 1 - F-(s)))

is the two-sided p-value. A price often stays on its tick, so one bin can hold most of the weight:
as both F and 1 - F- contain the whole bin, such a price has a p-value near 1, and P(p <= a) <= a
holds as far as scores are exchangeable. `randomised` spreads the bin, which makes p uniform.

Source: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005, section 2.2
(p-values of conformal predictors; smoothed: randomised); Brockwell, "Universal residuals",
Statistics and Probability Letters 77, 2007 (the randomised transform of discrete outcomes).
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from runner.types import FloatArray

MEMORY_POINTS = 5000  # a p-value of 0.001 is 5 of them; a day of 500 markets is 144,000
LEAST_HALF_WIDTH = 0.005  # half a cent: most markets have ticks of a cent
FIRST_STEPS = np.array([0, 1, 4, 12])  # of each group of steps, from 0
# Edges of the bins. Scores under the first one are one bin: the price has not moved.
_AWAY = np.geomspace(0.01, 200.0, 56)
_EDGES = np.concatenate([-_AWAY[::-1], _AWAY])


@dataclass(frozen=True, slots=True, eq=False)
class ScoreHistogram:
    """Decayed counts ``(G, B)`` of signed scores, by group of steps and bin."""

    counts: FloatArray = field(
        default_factory=lambda: np.zeros((len(FIRST_STEPS), len(_EDGES) + 1))
    )

    def after(self, step: NDArray[np.int64], scores: FloatArray) -> "ScoreHistogram":
        """With the signed scores ``(N,)`` of steps ``(N,)``, oldest first."""
        group, at = _group(step), _bin(scores)
        counts = self.counts.copy()
        for number in np.unique(group):
            new = at[group == number]
            kept = (1.0 - 1.0 / MEMORY_POINTS) ** np.arange(len(new), -1, -1)
            counts[number] = counts[number] * kept[0] + np.bincount(
                new, kept[1:], minlength=counts.shape[1]
            )
        return ScoreHistogram(counts)

    def p_value(self, step: int, score: float) -> tuple[float, float]:
        """The p-value of a signed score, and of how many scores; 1 without any."""
        samples = float(self.counts[_group(np.array(step))].sum())
        return float(self.p_values(step, np.array([score]))[0]), samples

    def p_values(self, step: int, scores: FloatArray) -> FloatArray:
        """The p-values ``(N,)`` of signed scores ``(N,)`` of one step; 1 without earlier ones."""
        before, here, total = self._around(step, scores)
        after = np.maximum(total - before - here, 0.0)
        two_sided = 2 * (here + np.minimum(before, after)) / total if total else np.ones(len(here))
        return np.minimum(1.0, two_sided)

    def randomised(self, step: int, scores: FloatArray, uniform: FloatArray) -> FloatArray:
        """The same with the bin of each score spread by ``uniform`` ``(N,)`` in [0, 1]."""
        before, here, total = self._around(step, scores)
        below = (before + uniform * here) / total
        return 2 * np.minimum(below, 1 - below)

    def _around(self, step: int, scores: FloatArray) -> tuple[FloatArray, FloatArray, float]:
        """The weights ``(N,)`` before the bin of each score and in it, and that of all scores."""
        row, at = self.counts[_group(np.array(step))], _bin(scores)
        before = np.concatenate([[0.0], np.cumsum(row)])
        return before[at], row[at], float(row.sum())


def signed_scores(interval: FloatArray, y_prob: FloatArray) -> FloatArray:
    """Signed scores ``(...)`` of prices ``(...)`` in intervals ``(..., 3)``: low, centre, up.

    >>> signed_scores(np.array([0.4, 0.5, 0.7]), np.array([0.3, 0.6, 0.5])).round(6).tolist()
    [-2.0, 0.5, 0.0]
    """
    low, centre, up = np.moveaxis(interval, -1, 0)
    away = y_prob - centre
    half = np.where(away > 0, up - centre, centre - low)
    scores: FloatArray = away / np.maximum(half, LEAST_HALF_WIDTH)
    return scores


def _group(step: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(np.searchsorted(FIRST_STEPS, step, side="right") - 1)


def _bin(score: FloatArray) -> NDArray[np.int64]:
    return np.asarray(np.searchsorted(_EDGES, score, side="right"))
