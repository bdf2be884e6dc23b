"""Named load curves: requests per second over time, without locust.

steady   rate ------------------------
step     rate, then half way to peak, then peak, a third of the time each
spike    rate, in the middle tenth peak, then rate again: does it recover?
ramp     from rate to peak in a straight line: where does it bend?
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Curve:
    """How hard to push, and for how long."""

    name: str
    rate: float
    peak_rate: float
    duration_s: float

    def rate_at(self, elapsed_s: float) -> float | None:
        """Requests per second at a moment of the run; None once it is over."""
        if not 0 <= elapsed_s < self.duration_s:
            return None
        return CURVES[self.name](self.rate, self.peak_rate, elapsed_s / self.duration_s)


def _steady(rate: float, _peak: float, _done: float) -> float:
    return rate


def _step(rate: float, peak: float, done: float) -> float:
    return (rate, (rate + peak) / 2, peak)[int(done * 3)]


def _spike(rate: float, peak: float, done: float) -> float:
    return peak if 0.45 <= done < 0.55 else rate


def _ramp(rate: float, peak: float, done: float) -> float:
    return rate + (peak - rate) * done


CURVES: dict[str, Callable[[float, float, float], float]] = {
    "steady": _steady,
    "step": _step,
    "spike": _spike,
    "ramp": _ramp,
}
