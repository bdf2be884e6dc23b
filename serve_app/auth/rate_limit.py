"""Rate limits of callers, counted in series-steps.

A **series-step** is one number in or out. A request costs points x (1 + covariates, and one more
where it sends times) + horizon x (quantile levels + covariates known ahead). It costs at least one
step for every 32 bytes of its body, so that refused requests cost something too. The example of the
API document, 32 points and 12 steps at 3 levels, costs 68.
"""

from collections.abc import Callable
from math import ceil

from starlette.types import Scope

from runner.config.security import SecuritySection
from runner.errors import RateLimitedError

BYTES_PER_STEP = 32

SCOPE_KEY = "tsfm.allowance"  # the access check puts the rate limit here in the ASGI scope

RawHeaders = list[tuple[bytes, bytes]]


class NoRateLimit:
    """The rate limit of all callers while no tokens are configured: none."""

    def admit(self, steps: int) -> None:
        """Takes the steps."""

    def spend(self, steps: int) -> None:
        """Takes the steps."""


class RateLimit(NoRateLimit):
    """One caller's series-steps in this process; they are refilled over time, up to the burst.

    A request is admitted while any steps are left, and may take more than are left: so a request of
    any size can be admitted. The next one is refused until the overdraft is refilled.
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
        """Takes the steps of an admitted request, even if that is more than what is left."""
        self._full_at = max(self._full_at, self._clock()) + steps * self._step_s

    def headers(self) -> RawHeaders:
        """The rate limit headers of the answer."""
        settings, missing_s = self._settings, max(0.0, self._full_at - self._clock())
        return rate_limit_headers(settings.burst_steps, settings.refill_steps_per_s, missing_s)


_UNLIMITED = NoRateLimit()


def rate_limit_of(scope: Scope) -> NoRateLimit:
    """The rate limit of the caller of this request."""
    rate_limit: NoRateLimit = scope.get(SCOPE_KEY, _UNLIMITED)
    return rate_limit


def rate_limit_headers(burst: int, refill_steps_per_s: float, missing_s: float) -> RawHeaders:
    """RateLimit-* of draft-ietf-httpapi-ratelimit-headers-07; ``missing_s``: time to a full refill.

    >>> [value for _, value in rate_limit_headers(1000, 10.0, 2.5)]
    [b'975', b'3', b'1000', b'1000;w=100']
    """
    left = max(0, int(burst - missing_s * refill_steps_per_s + 1e-3))  # 1e-3: rounding of the clock
    return [
        (b"ratelimit-remaining", b"%d" % left),
        (b"ratelimit-reset", b"%d" % ceil(missing_s)),
        (b"ratelimit-limit", b"%d" % burst),
        (b"ratelimit-policy", b"%d;w=%d" % (burst, ceil(burst / refill_steps_per_s))),
    ]


def body_steps(body: bytes) -> int:
    """The least cost of a body, known before it is parsed."""
    return max(1, len(body) // BYTES_PER_STEP)
