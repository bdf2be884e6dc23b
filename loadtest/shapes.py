"""Named load curves: requests per second over time, without locust.

steady   rate ------------------------
step     rate, then half way to peak, then peak, a third of the time each
spike    rate, in the middle tenth peak, then rate again: does it recover?
ramp     from rate to peak in a straight line: where does it bend?
"""

from collections.abc import Callable

CURVES: dict[str, Callable[[float, float, float], float]] = {  # rate, peak, done: 0 to 1
    "steady": lambda rate, _peak, _done: rate,
    "step": lambda rate, peak, done: (rate, (rate + peak) / 2, peak)[int(done * 3)],
    "spike": lambda rate, peak, done: peak if 0.45 <= done < 0.55 else rate,
    "ramp": lambda rate, peak, done: rate + (peak - rate) * done,
}


def rate_at(name: str, rate: float, peak_rate: float, done: float) -> float | None:
    """Requests per second when a share ``done`` of the run is over; None once all of it is."""
    return CURVES[name](rate, peak_rate, done) if 0 <= done < 1 else None
