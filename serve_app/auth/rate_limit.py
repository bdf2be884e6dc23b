"""How much a caller may ask for: one unit, and the allowance it is taken from.

The unit is the **series-step**: one number in or out. A request costs its points times one plus its
covariates (and its times, where it sends them), and its horizon times its levels plus the
covariates known ahead; never less than one for every 32 bytes of its body, so that what is refused
costs as well. The document's example, 32 points and 12 steps at 3 levels, costs 68.
"""

from collections.abc import Callable
from functools import lru_cache
from math import ceil

from starlette.types import Scope

from runner.config.security import SecuritySection
from runner.errors import RateLimitedError

BYTES_PER_STEP = 32

SCOPE_KEY = "tsfm.allowance"  # where the gate leaves it in the ASGI scope

RawHeaders = list[tuple[bytes, bytes]]


class NoRateLimit:
    """The allowance of everybody while there are no tokens."""

    def admit(self, steps: int) -> None:
        """Takes the steps."""

    def spend(self, steps: int) -> None:
        """Takes the steps."""


class RateLimit(NoRateLimit):
    """One caller's series-steps in this process; they come back with time, up to the burst.

    A request is admitted while anything is left, and may take more than that: no size of request
    is shut out for good, and what it took too much is waited for before the next one.
    """

    def __init__(self, settings: SecuritySection, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._burst_s = settings.burst_steps / settings.refill_steps_per_s
        self._step_s = 1.0 / settings.refill_steps_per_s
        self._full_at = clock()

    def admit(self, steps: int) -> None:
        """Takes the steps.

        Raises:
            RateLimitedError: nothing is left.
        """
        now = self._clock()
        missing_s = self._full_at - now
        if missing_s >= self._burst_s:
            raise RateLimitedError(
                missing_s - self._burst_s,
                self._settings.burst_steps,
                self._settings.refill_steps_per_s,
            )
        self._full_at = max(self._full_at, now) + steps * self._step_s

    def spend(self, steps: int) -> None:
        """Takes the steps of what has been admitted, even if that is more than what is left."""
        self._full_at = max(self._full_at, self._clock()) + steps * self._step_s

    def headers(self) -> RawHeaders:
        """What is left, for the answer."""
        settings, missing_s = self._settings, max(0.0, self._full_at - self._clock())
        return rate_limit_headers(settings.burst_steps, settings.refill_steps_per_s, missing_s)


_UNLIMITED = NoRateLimit()


def rate_limit_of(scope: Scope) -> NoRateLimit:
    """What the caller of this request may still ask for."""
    allowance: NoRateLimit = scope.get(SCOPE_KEY, _UNLIMITED)
    return allowance


def rate_limit_headers(burst: int, refill_steps_per_s: float, missing_s: float) -> RawHeaders:
    """RateLimit-* of draft-ietf-httpapi-ratelimit-headers-07; ``missing_s`` until all is back.

    >>> [value for _, value in rate_limit_headers(1000, 10.0, 2.5)]
    [b'975', b'3', b'1000', b'1000;w=100']
    """
    left = max(0, int(burst - missing_s * refill_steps_per_s + 1e-3))  # the clock's own rounding
    return [
        (b"ratelimit-remaining", b"%d" % left),
        (b"ratelimit-reset", b"%d" % ceil(missing_s)),
        *_policy(burst, refill_steps_per_s),
    ]


@lru_cache(maxsize=1)  # there is one policy in a process
def _policy(burst: int, refill_steps_per_s: float) -> RawHeaders:
    window_s = ceil(burst / refill_steps_per_s)
    return [
        (b"ratelimit-limit", b"%d" % burst),
        (b"ratelimit-policy", b"%d;w=%d" % (burst, window_s)),
    ]


def body_steps(body: bytes) -> int:
    """What a body costs before it is understood, and at least."""
    return max(1, len(body) // BYTES_PER_STEP)
