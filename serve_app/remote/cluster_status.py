"""Status of the other replicas for an ingress replica, from Serve and from the Runner.

Answers are kept for a short time (`CachedCall`), so that many viewers cost no more than one. A call
that fails or takes too long gives None: not known. While a call hangs, no second one is started.
"""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

from runner.types import BreakerState
from serve_app.http.status_endpoint import RunnerReport, breaker_item
from serve_app.telemetry.scrape import exposition, gather, metric_urls

T = TypeVar("T")
logger = logging.getLogger(__name__)


class CachedCall(Generic[T]):
    """The latest answer of ``ask``, no older than ``kept_s``; ``clock`` is monotonic."""

    def __init__(
        self,
        ask: Callable[[], Coroutine[Any, Any, T]],
        clock: Callable[[], float],
        *,
        kept_s: float = 2.0,
        limit_s: float = 1.0,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._kept_s = kept_s
        self._limit_s = limit_s
        self._asking: asyncio.Task[T] | None = None
        self._good_until = float("-inf")

    async def __call__(self) -> T | None:
        """The answer, or None if there is none in time."""
        if self._asking is None or (self._asking.done() and self._clock() >= self._good_until):
            # not in the context of this caller: Serve cancels what was called there when it leaves
            self._asking = asyncio.create_task(self._ask(), context=contextvars.Context())
            self._good_until = self._clock() + self._kept_s
        try:
            async with asyncio.timeout(self._limit_s):
                return await asyncio.shield(self._asking)
        except Exception as exc:  # noqa: BLE001 - every failure has the same answer
            logger.info("cluster status not known: %s", type(exc).__name__)
            return None


class RayClusterStatus:
    """Status of the other replicas of an application; ``clock`` is monotonic.

    ``runner`` is the status of any one Runner, because their breaker states agree within a second;
    ``replicas`` are the numbers of running replicas from Serve's controller.
    """

    def __init__(
        self, runner: DeploymentHandle[Any], application: str, clock: Callable[[], float]
    ) -> None:
        handle = runner.options(method_name="status")
        self.runner = CachedCall(lambda: _runner(handle), clock)
        self.replicas = CachedCall(lambda: asyncio.to_thread(_replicas, application), clock)
        self._metrics = CachedCall(_scrape, clock, kept_s=1.0, limit_s=5.0)

    async def metrics(self) -> bytes:
        """The metrics from Ray's agents on all nodes."""
        return await self._metrics() or exposition([], {"read": 0})


async def _scrape() -> bytes:
    return await gather(metric_urls(await asyncio.to_thread(ray.nodes)))


async def _runner(handle: Any) -> RunnerReport:
    breakers, waiting, installed = await handle.remote()
    items = [breaker_item(name, BreakerState(state), retry) for name, state, retry in breakers]
    return RunnerReport(items, waiting, installed)


def _replicas(application: str) -> dict[str, int]:
    overview = serve.status().applications[application].deployments
    return {name: one.replica_states.get("RUNNING", 0) for name, one in overview.items()}  # type: ignore[call-overload] # the keys are strings
