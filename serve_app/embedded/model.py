"""A pretrained model that runs on the CPU: fracast-0, from its own wheel.

Torch is imported when the model is loaded, not with this module: it belongs to the optional extra
``[embedded]``.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from statistics import NormalDist
from typing import Any

import numpy as np

from runner.baseline.ewma_bands import pad_left
from runner.errors import ConfigError
from runner.types import FloatArray

MIN_POINTS = 8  # the model refuses shorter series
_THREADS = 1  # two threads on two busy cores spin: 750 ms instead of 57 for one series
_LARGEST = 1e30  # float32 ends at 3.4e38; leaves room for the model's own arithmetic


class SeriesError(ValueError):
    """The model cannot forecast the series at ``index``; ``message`` says why."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(f"series {index}: {message}")
        self.index, self.message = index, message


class ModelFailedError(RuntimeError):
    """The model failed; its text is the class of the exception that it raised."""


class EmbeddedModel:
    """fracast-0: 85 thousand parameters, deciles of the next steps from up to 2,048 points."""

    name = "fracast-0"
    # Series in one model call, near the least cost per series. Measured ms of CPU per series at 1,
    # 2, 4, 8, 16, 64: 50, 43, 38, 37, 53, 150.
    best_batch = 4

    def __init__(self) -> None:
        require_extra()
        import torch
        from fracast import FracastModel

        torch.set_num_threads(_THREADS)
        self._model: Any = FracastModel.from_pretrained()
        self._levels = tuple(self._model.quantiles)
        self.forecast([np.zeros(MIN_POINTS)], 1, (0.5,))  # the first call is slow: warm up here

    def forecast(
        self, series: Sequence[FloatArray], horizon_steps: int, levels: Sequence[float]
    ) -> FloatArray:
        """``(B, H, Q)``: for each series its paths at ``levels``, ordered in every step.

        Each ``y`` is ``(T,)``, lengths may differ, values in any space. Takes about 40 ms of CPU
        per series and 48 steps, for any T.

        Raises:
            SeriesError: a series is too short, or its values too large for 32 bits.
            ModelFailedError: the model itself failed.
        """
        for index, y in enumerate(series):
            _check(y, index)
        last = np.array([y[-1] for y in series])
        context = pad_left([y - y[-1] for y in series])  # float32 is more precise near zero
        try:
            raw = self._model.forecast_batch(context, horizon=horizon_steps)  # (B, H, 9)
        except (RuntimeError, ValueError) as exc:
            raise ModelFailedError(type(exc).__name__) from exc
        ordered = np.sort(np.asarray(raw, dtype=np.float64), axis=2)  # 2 % of the quantiles cross
        paths: FloatArray = at_levels(ordered, self._levels, levels) + last[:, None, None]
        return paths


def require_extra() -> None:
    """Raises a ConfigError if torch or fracast is not installed."""
    missing = [name for name in ("torch", "fracast") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"The embedded model needs {' and '.join(missing)}: "
            "pip install '.[embedded]' in the folder of TSFM Runner"
        )


def at_levels(paths: FloatArray, known: Sequence[float], wanted: Sequence[float]) -> FloatArray:
    """Quantile paths at other levels: linear interpolation between the known ones in normal scores.

    ``paths`` ``(..., K)`` at K ascending levels become ``(..., Q)``, monotone in the level. In
    ``z = Phi^-1(level)`` the quantiles of a normal distribution are a straight line, so they are
    exact at any level. Beyond the outermost known levels the line through the outer two is
    extended: normal tails with the spread seen there. If the true distribution has heavier tails,
    levels such as 0.01 are too narrow; the model's output does not show this.
    """
    z_known = np.array([NormalDist().inv_cdf(level) for level in known])
    z_wanted = np.array([NormalDist().inv_cdf(level) for level in wanted])
    left = np.clip(np.searchsorted(z_known, z_wanted) - 1, 0, len(known) - 2)  # (Q,)
    share = (z_wanted - z_known[left]) / (z_known[left + 1] - z_known[left])
    low, high = paths[..., left], paths[..., left + 1]
    found: FloatArray = low + share * (high - low)
    return found


def _check(y: FloatArray, index: int) -> None:
    if len(y) < MIN_POINTS:
        raise SeriesError(index, f"needs at least {MIN_POINTS} points")
    if not np.abs(y).max() < _LARGEST:
        raise SeriesError(index, f"values must be finite and under {_LARGEST:g}")
