"""When a call is worth another attempt: within attempts, patience, and a budget of tokens.

A forecast may be asked for twice, so every failure of the way there may be tried again: no
connection, a broken one, a proxy that answers for the service, 429 and 5xx. The budget keeps a
client from making an outage worse: see `runner.retry_budget`.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tenacity import RetryCallState, stop_after_attempt, stop_before_delay
from tenacity.retry import retry_if_exception

from runner.retry_budget import RetryBudget
from serve_app.client.errors import ServiceError, UnreachableError

COME_BACK = (429, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Retries:
    """How a client tries again; ``attempts=1`` never does.

    Attributes:
        attempts: in all, the first one included.
        first_wait_s: doubled for each further one, with jitter.
        longest_wait_s: a ``Retry-After`` over this is not waited for.
        tokens: failures take one of them, successes give ``ratio`` of one back, and while less
            than half of them are there nothing is tried again.
    """

    attempts: int = 3
    first_wait_s: float = 0.2
    longest_wait_s: float = 5.0
    tokens: float = 10.0
    ratio: float = 0.1


class Retrier:
    """The retries of one client, as tenacity wants them."""

    def __init__(self, settings: Retries, chance: Callable[[], float] = random.random) -> None:
        self._settings = settings
        self._chance = chance
        self.budget = RetryBudget(settings.tokens, settings.ratio)

    def arguments(self, limit_s: float | None) -> dict[str, Any]:
        """Of `Retrying`, for a call that may take ``limit_s`` in all (None: any time)."""
        stop: Any = stop_after_attempt(self._settings.attempts)
        if limit_s is not None:
            stop |= stop_before_delay(limit_s)
        worth_it = retry_if_exception(self._worth_it)
        return {"stop": stop, "wait": self._wait_s, "retry": worth_it, "reraise": True}

    def _worth_it(self, error: BaseException) -> bool:
        if isinstance(error, ServiceError):
            if error.status not in COME_BACK:
                return False
            if (error.retry_after_s or 0.0) > self._settings.longest_wait_s:
                return False
        elif not isinstance(error, UnreachableError):
            return False
        self.budget.failed()
        return self.budget.allows_retry

    def _wait_s(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_s = getattr(error, "retry_after_s", None)
        if asked_s is not None:
            return float(asked_s)
        grown_s: float = self._settings.first_wait_s * 2 ** (state.attempt_number - 1)
        return min(self._settings.longest_wait_s, grown_s) * (0.5 + self._chance())
