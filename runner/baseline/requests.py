"""The baseline for requests: EWMA bands with the same corrections as a model's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runner.bands import min_widths, sanitize
from runner.baseline.ewma_bands import ewma_bands, pad_left
from runner.config.sections import BandsSection, BaselineSection
from runner.types import Bands, FloatArray, Transform


@dataclass(frozen=True, slots=True, eq=False)
class BaselineRequest:
    """One series for the baseline: ``(T,)`` probability, NaN where nothing was observed."""

    y_prob: FloatArray
    horizon_steps: int
    levels: tuple[float, ...]
    transform: Transform

    @property
    def shape(self) -> tuple[int, tuple[float, ...], Transform]:
        """What requests must have in common to be computed together."""
        return self.horizon_steps, self.levels, self.transform


def baseline_bands(
    requests: Sequence[BaselineRequest], baseline: BaselineSection, limits: BandsSection
) -> list[Bands]:
    """Bands for each request, in order; requests of one shape are computed together."""
    answers: dict[int, Bands] = {}
    for rows in _by_shape(requests):
        first = requests[rows[0]]
        levels = np.asarray(first.levels)
        y_prob = pad_left([requests[i].y_prob for i in rows])
        paths = ewma_bands(y_prob, first.horizon_steps, levels, first.transform, baseline)
        sanitized = sanitize(paths, levels, limits, min_widths(y_prob, limits))
        answers.update((i, sanitized.row(b)) for b, i in enumerate(rows))
    return [answers[i] for i in range(len(requests))]


def _by_shape(requests: Sequence[BaselineRequest]) -> list[list[int]]:
    groups: dict[object, list[int]] = {}
    for i, request in enumerate(requests):
        groups.setdefault(request.shape, []).append(i)
    return list(groups.values())
