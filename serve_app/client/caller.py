"""Who calls, where, and how patiently: what both clients begin with."""

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
# a proxy that the environment names is not asked for this machine
_NO_PROXY = dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]"))
_COME_BACK = (429, 502, 503, 504)  # a forecast may be asked for twice: it does no harm


@dataclass(frozen=True, slots=True)
class Retries:
    """How a client tries again; ``attempts=1`` never does.

    The first of the `attempts` counts. Pauses double, with jitter; a ``Retry-After`` over
    `longest_wait_s` is not waited for. Failures take one of the `tokens`, successes give `ratio` of
    one back, and while less than half of them are there nothing is tried again.
    """

    attempts: int = 3
    first_wait_s: float = 0.2
    longest_wait_s: float = 5.0
    tokens: float = 10.0
    ratio: float = 0.1


class Caller:
    """A client without its methods.

    Args:
        url: of the service; TSFM_URL or http://127.0.0.1:8000 when it is not given.
        token: TSFM_TOKEN when it is not given.
        timeout_s: for one attempt of a call without a deadline.
        retries: how often and how soon to try again.
        transport: httpx's: what carries the requests, for tests and special networks.
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
        """How long to wait after a failure and so many attempts; None: it is not tried again."""
        retries = self._retries
        asked_s = getattr(failure, "retry_after_s", None)
        if isinstance(failure, ServiceError) and failure.status not in _COME_BACK:
            return None
        if asked_s is not None and asked_s > retries.longest_wait_s:
            return None
        self.budget.failed()
        if attempts >= retries.attempts or not self.budget.allows_retry:
            return None
        grown_s = min(retries.longest_wait_s, retries.first_wait_s * 2 ** (attempts - 1))
        return grown_s * (0.5 + random.random()) if asked_s is None else float(asked_s)
