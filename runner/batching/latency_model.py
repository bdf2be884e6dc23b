"""How long a runtime call of n series will take, learned from the last calls of its key.

A call takes ``a + b * n`` seconds: a fixed cost and a cost per series (tollama's ``mock`` model on
two cores: 37 ms and 0.9 ms). Both are fitted by least squares with exponential forgetting; the line
goes through the weighted centre of the observed calls, and neither part may be negative.

Without enough data the forecast is optimistic: while all calls had about the same size the slope is
unknown, so a smaller call is expected to cost its share and a larger one no more. A pessimistic
forecast would send nothing, so no new observation could correct it.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_MEMORY_CALLS = 8.0  # a busy model queue makes these in a second or less: it adapts at once
_KEPT_FRACTION = 1.0 - 1.0 / _MEMORY_CALLS
# The cost per series changes rarely, and calls of equal size tell nothing about it: forgotten as
# fast as the mean, it fell to 0 after ten of them, and the next call held everything that waited.
_SLOPE_KEPT_FRACTION = 1.0 - 1.0 / 64.0
_DOUBT = 1.0  # series squared: with less spread of sizes than this the slope is uncertain
_OUTLIER_FACTOR = 4.0  # caps a single stall; a lasting change still moves the mean
_OUTLIER_SLACK_S = 0.05


@dataclass(frozen=True, slots=True)
class CallLatency:
    """A forecast of call times: two lines that meet in the centre of the observed calls."""

    centre_n: float  # mean number of series in a call, > 0
    centre_s: float  # mean seconds of a call, >= 0
    slope_below_s: float  # seconds per series for smaller calls, 0 to centre_s / centre_n
    slope_above_s: float  # the same for larger calls

    def seconds(self, n: int) -> float:
        """Expected seconds of a call of ``n`` series; never negative, never falls with ``n``."""
        away = n - self.centre_n
        return self.centre_s + away * (self.slope_below_s if away < 0 else self.slope_above_s)


UNKNOWN = CallLatency(centre_n=1.0, centre_s=0.0, slope_below_s=0.0, slope_above_s=0.0)


class LatencyFit:
    """Weighted means and moments of (series, seconds), updated one call at a time.

    Source: West (1979), "Updating mean and variance estimates", with weights that fade by
    ``_KEPT_FRACTION`` a call, those of the moments by ``_SLOPE_KEPT_FRACTION``; centred sums, so no
    cancellation.
    """

    def __init__(self) -> None:
        self._weight = 0.0
        self._mean_n = 0.0
        self._mean_s = 0.0
        self._var_n = 0.0
        self._cov_ns = 0.0

    def observe(self, n: int, seconds: float) -> None:
        """Adds a completed call of ``n`` >= 1 series."""
        taken_s = min(seconds, self._believable_s(n))
        self._weight = _KEPT_FRACTION * self._weight + 1.0
        step_n = n - self._mean_n
        self._mean_n += step_n / self._weight
        self._mean_s += (taken_s - self._mean_s) / self._weight
        self._var_n = _SLOPE_KEPT_FRACTION * self._var_n + step_n * (n - self._mean_n)
        self._cov_ns = _SLOPE_KEPT_FRACTION * self._cov_ns + step_n * (taken_s - self._mean_s)

    def line(self) -> CallLatency:
        """The forecast after at least one call."""
        steepest = self._mean_s / self._mean_n  # beyond this the fixed cost would be negative
        pull = self._var_n + _DOUBT
        return CallLatency(
            centre_n=self._mean_n,
            centre_s=self._mean_s,
            slope_below_s=_clamp((self._cov_ns + _DOUBT * steepest) / pull, steepest),
            slope_above_s=_clamp(self._cov_ns / pull, steepest),
        )

    def _believable_s(self, n: int) -> float:
        if not self._weight:
            return float("inf")
        share = max(1.0, n / self._mean_n)
        return _OUTLIER_FACTOR * self._mean_s * share + _OUTLIER_SLACK_S


class LatencyModel(Generic[K]):
    """Forecasts per key that are forgotten ``forgets_after_s`` after the key's last call.

    Without forgetting a slow period could block a key for good: every item would look too late, no
    call would be made, and no observation would show that calls are fast again.
    """

    def __init__(self, forgets_after_s: float) -> None:
        self._forgets_after_s = forgets_after_s
        self._fits: dict[K, tuple[float, LatencyFit]] = {}  # least recently observed first

    def __len__(self) -> int:
        """Keys held in memory: those observed within the last ``forgets_after_s``."""
        return len(self._fits)

    def observe(self, key: K, n: int, seconds: float, now: float) -> None:
        """Adds a call of ``n`` series that ended at ``now``."""
        self._forget(now)
        _, fit = self._fits.pop(key, (now, None))
        fit = fit or LatencyFit()
        fit.observe(n, seconds)
        self._fits[key] = (now, fit)

    def at(self, key: K, now: float) -> CallLatency:
        """The forecast for ``key``; ``UNKNOWN`` (0 s) without a recent observation."""
        self._forget(now)
        known = self._fits.get(key)
        return known[1].line() if known else UNKNOWN

    def _forget(self, now: float) -> None:
        while self._fits:
            key, (observed_at, _) = next(iter(self._fits.items()))
            if now - observed_at <= self._forgets_after_s:
                return
            del self._fits[key]


def _clamp(slope_s: float, steepest_s: float) -> float:
    return min(max(slope_s, 0.0), steepest_s)
