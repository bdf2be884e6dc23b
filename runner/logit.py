"""Log-odds of probabilities and back; ``eps`` keeps 0 and 1 finite.

A probability p becomes log(p / (1 - p)) after clipping to [eps, 1 - eps], so a market at exactly 0
or 1 maps to about -13.8 or 13.8 with the default eps of 1e-6 (customer document, "Defaults (v0)").
"""

import numpy as np

from runner.types import FloatArray, Space, Transform


def to_logit(y_prob: FloatArray, eps: float) -> FloatArray:
    """Log-odds of probabilities, any shape; NaN stays NaN.

    >>> to_logit(np.array([0.5, 1.0]), eps=1e-6).round(4).tolist()
    [0.0, 13.8155]
    """
    p = np.clip(y_prob, eps, 1.0 - eps)
    return np.log(p / (1.0 - p))


def to_prob(y_logit: FloatArray) -> FloatArray:
    """Probabilities of log-odds, any shape; saturates at 0 and 1 without a warning.

    Written as (1 + tanh(x / 2)) / 2, which equals 1 / (1 + exp(-x)) and overflows at neither end.

    >>> to_prob(np.array([0.0, 800.0, -800.0])).tolist()
    [0.5, 1.0, 0.0]
    """
    return 0.5 * (1.0 + np.tanh(0.5 * y_logit))


def to_model_space(y_prob: FloatArray, transform: Transform) -> FloatArray:
    """The series in the model's space: log-odds, or unchanged."""
    return to_logit(y_prob, transform.eps) if transform.space is Space.LOGIT else y_prob


def from_model_space(y: FloatArray, transform: Transform) -> FloatArray:
    """Probabilities from the model's space; identity values may lie outside [0, 1]."""
    return to_prob(y) if transform.space is Space.LOGIT else y
