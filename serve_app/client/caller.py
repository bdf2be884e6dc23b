"""The settings and the retry policy that both clients share."""

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from runner.tollama.retry_budget import RetryBudget
from serve_app.client.errors import ClientError, ServiceError

DEFAULT_URL = "http://127.0.0.1:8000"
# requests to this machine do not use a proxy of the environment
_NO_PROXY = dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]"))
_RETRIED_STATUS = (429, 502, 503, 504)  # forecasts are idempotent: a retry is safe


@dataclass(frozen=True, slots=True)
class Retries:
    """The retry policy of a client; ``attempts=1`` disables retries.

    The first call is one of the `attempts`. Pauses double, with jitter; a ``Retry-After`` over
    `longest_wait_s` is not waited for. Failures take one of the `tokens`, successes give `ratio` of
    one back, and while less than half of them are left there are no retries.
    """

    attempts: int = 3
    first_wait_s: float = 0.2
    longest_wait_s: float = 5.0
    tokens: float = 10.0
    ratio: float = 0.1


class Caller:
    """Base class of both clients: settings, HTTP connections and retry policy.

    Args:
        url: of the service; TSFM_URL or http://127.0.0.1:8000 when it is not given.
        token: TSFM_TOKEN when it is not given.
        timeout_s: for one attempt of a call without a deadline.
        retries: the retry policy.
        transport: an httpx transport, for tests and special networks.
        sleep: how to wait between two attempts, in seconds; a coroutine function for asyncio.
    """

    http_type: Any
    own_sleep: Any

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout_s: float = 35.0,
        retries: Retries = Retries(),
        transport: Any = None,
        sleep: Callable[[float], Any] | None = None,
    ) -> None:
        self.url = (url or os.environ.get("TSFM_URL") or DEFAULT_URL).rstrip("/")
        address = httpx.URL(self.url)
        if address.scheme not in ("http", "https") or not address.host:
            raise ValueError(f"{self.url!r} is no address; write it like {DEFAULT_URL}")
        headers = {"user-agent": "tsfm-client", "content-type": "application/json"}
        if token := token or os.environ.get("TSFM_TOKEN"):
            headers["authorization"] = f"Bearer {token}"
        settings = {"base_url": self.url, "headers": headers, "mounts": _NO_PROXY}
        self.http = self.http_type(**settings, transport=transport)
        self.sleep = sleep or self.own_sleep
        self.timeout_s, self._retries = timeout_s, retries
        self.budget = RetryBudget(retries.tokens, retries.ratio)
        self.clock = time.monotonic  # noqa: TID251 - of deadlines, which end in real time

    def pause_s(self, failure: ClientError, attempts: int) -> float | None:
        """Seconds to wait before the next attempt; None: there is none."""
        retries = self._retries
        asked_s = getattr(failure, "retry_after_s", None)
        if isinstance(failure, ServiceError) and failure.status not in _RETRIED_STATUS:
            return None
        if asked_s is not None and asked_s > retries.longest_wait_s:
            return None
        self.budget.failed()
        if attempts >= retries.attempts or not self.budget.allows_retry:
            return None
        grown_s = min(retries.longest_wait_s, retries.first_wait_s * 2 ** (attempts - 1))
        return grown_s * (0.5 + random.random()) if asked_s is None else float(asked_s)
