"""Builders for the tests of the circuit breaker."""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any

from runner.breaker.shared import SharedBreakers, SyncRequest
from runner.breaker.state_machine import (
    Breaker,
    Breakers,
    BreakerSnapshots,
    CallResult,
    Permit,
    Refusal,
    Report,
    Verdict,
)
from runner.config.sections import CircuitBreakerSection

SUCCESS = CallResult(Verdict.SUCCESS)
FAILURE = CallResult(Verdict.FAILURE)
IGNORED = CallResult(Verdict.IGNORED)
NO_INFORMATION = CallResult(Verdict.NO_INFORMATION, wait_s=16.0)

FAST_S = 0.1
SLOW_S = 2.0


def make_settings(**changes: Any) -> CircuitBreakerSection:
    """Small numbers for calculation by hand; no jitter, no rates."""
    values: dict[str, Any] = {
        "consecutive_failures": 3,
        "window_s": 60.0,
        "min_calls": 10,
        "failure_rate": None,
        "slow_call_s": 1.0,
        "slow_call_rate": None,
        "cooldown_s": 100.0,
        "cooldown_growth": 2.0,
        "cooldown_max_s": 350.0,
        "cooldown_jitter_fraction": 0.0,
        "probes": 1,
        "probe_lease_s": 5.0,
        "successes_to_close": 1,
        "sync_interval_s": 0.25,
        "shared_timeout_s": 0.2,
        "ingress_memory_s": 1.0,
    }
    return CircuitBreakerSection(**(values | changes))


def make_breaker(*, jitter: float = 0.5, owner: str = "p", **changes: Any) -> Breaker:
    return Breaker(make_settings(**changes), lambda: jitter, (f"{owner}{n}" for n in count(1)))


def permit_of(answer: Permit | Refusal | None) -> Permit:
    """The permit that must have been given."""
    assert isinstance(answer, Permit), f"refused: {answer}"
    return answer


def call(breaker: Breaker, outcome: CallResult, now: float, duration_s: float = FAST_S) -> None:
    """One whole call at one moment."""
    breaker.record(permit_of(breaker.acquire(now)), outcome, duration_s, now)


NOW = 1000.0  # by then a breaker under test has reached its state


def make_breakers(*, owner: str = "r1", **changes: Any) -> Breakers:
    return Breakers(make_settings(**changes), lambda: 0.5, owner)


def make_shared(clock: Callable[[], float], life: str = "actor", **changes: Any) -> SharedBreakers:
    return SharedBreakers(make_settings(**changes), clock, lambda: 0.5, life)


def fail(breakers: Breakers, name: str, now: float, failures: int = 3) -> None:
    """Whole calls at one moment."""
    for _ in range(failures):
        permit = permit_of(breakers.acquire(name, now))
        breakers.record(Report(name, permit, FAILURE, FAST_S), now)


class FakeActor:
    """The actor as replicas reach it: one request at a time; it can be slow or gone."""

    def __init__(self, clock: Callable[[], float], **changes: Any) -> None:
        self._clock = clock
        self._changes = changes
        self._lock = asyncio.Lock()
        self._lives = count(1)
        self.gone = False
        self.delay_s = 0.0
        self.requests = 0
        self.restart()

    def restart(self) -> None:
        """Starts again without state."""
        self.shared = make_shared(self._clock, f"life{next(self._lives)}-", **self._changes)

    async def call(self, method: str, *args: Any) -> Any:
        self.requests += 1
        if self.gone:
            raise RuntimeError("the actor died")
        return await asyncio.shield(asyncio.ensure_future(self._execute(self.shared, method, args)))

    async def _execute(self, shared: SharedBreakers, method: str, args: Any) -> Any:
        """Completes even when the replica no longer waits, as in Ray."""
        async with self._lock:
            await asyncio.sleep(self.delay_s)
            return getattr(shared, method)(*args)

    def breakers(self) -> BreakerSnapshots:
        """All breakers of the actor."""
        breakers = self.shared.sync(SyncRequest(None, copy={})).breakers
        assert breakers is not None
        return breakers
