"""Scores per window and step: coverage, width, and proper scores from scoringrules.

Interval score: Gneiting and Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation",
JASA 102(477), 2007, section 6.2; pinball loss: Koenker and Bassett, "Regression Quantiles",
Econometrica 46(1), 1978. Lower is better, except for coverage, which should equal the target.
"""

import numpy as np
from numpy.typing import NDArray

from runner.types import FloatArray

LEVELS = np.array([0.05, 0.1, 0.5, 0.9, 0.95])
MEDIAN = 2  # its place among LEVELS
PINBALL = slice(1, 4)  # the mean over 0.1, 0.5 and 0.9 is "the" pinball loss
INTERVALS = {0.8: (1, 3), 0.9: (0, 4)}  # coverage: the places of its two levels
_ROUNDING = 1e-9  # prices have the precision of float32
_NUMPY = "numpy"  # the default is numba where installed, which compiles first

Scores = dict[str, FloatArray]


def score_bands(bands: FloatArray, actual: FloatArray) -> Scores:
    """Scores ``(B, H)`` by name, of bands ``(B, H, Q)`` at ``LEVELS`` for actual values ``(B, H)``.

    Those of ``INTERVALS`` carry their coverage, as in ``width_80``; ``real`` is `real_moves`.
    """
    import scoringrules  # of an optional extra

    losses = scoringrules.quantile_score(actual[..., None], bands, LEVELS, backend=_NUMPY)
    error = actual - bands[..., MEDIAN]
    found = {
        "pinball": losses[..., PINBALL].mean(axis=-1),
        "crps": scoringrules.crps_quantile(actual, bands, LEVELS, backend=_NUMPY),
        "absolute_error": np.abs(error),
        "squared_error": error**2,
        "real": real_moves(bands, actual),
    }
    for coverage, (lower, upper) in INTERVALS.items():
        low, up = bands[..., lower], bands[..., upper]
        name = f"{round(coverage * 100)}"
        found[f"covered_{name}"] = inside(low, up, actual).astype(float)
        found[f"width_{name}"] = up - low
        winkler = scoringrules.interval_score(actual, low, up, 1 - coverage, backend=_NUMPY)
        found[f"interval_{name}"] = np.reshape(winkler, actual.shape)  # it drops axes of length 1
    return found


def inside(low: FloatArray, up: FloatArray, actual: FloatArray) -> NDArray[np.bool_]:
    """Whether outcomes lie in their bands, edges included."""
    within: NDArray[np.bool_] = (low - _ROUNDING <= actual) & (actual <= up + _ROUNDING)
    return within


def real_moves(bands: FloatArray, actual: FloatArray) -> FloatArray:
    """Which first breaches ``(B, H)`` were real moves: 1 or 0; NaN elsewhere.

    An alert would be sent for the first price outside the 80 % band. It is a real move if the last
    price of the horizon is still beyond the same edge, else a spike. A breach in the last step
    does not count.
    """
    low, up = (bands[..., place] for place in INTERVALS[0.8])
    breach = ~inside(low, up, actual)
    windows, steps = np.arange(len(actual)), breach.argmax(axis=1)
    broken = breach.any(axis=1) & (steps < actual.shape[1] - 1)
    windows, steps = windows[broken], steps[broken]
    upward = actual[windows, steps] > up[windows, steps]
    end = actual[windows, -1]
    stayed = np.where(upward, end > up[windows, steps], end < low[windows, steps])
    real = np.full(actual.shape, np.nan)
    real[windows, steps] = stayed
    return real
