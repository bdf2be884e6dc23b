"""The forecaster's ports over Serve handles: whatever goes wrong on the way becomes a value.

A handle can fail in many ways (replica died, unreachable, overloaded, not deployed) and each of
them means the same to a caller's request: the next best answer.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from itertools import count
from typing import Any

import numpy as np
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

from runner.baseline.requests import BaselineRequest, baseline_bands
from runner.config.loading import Config
from runner.config.sections import BatchingSection
from runner.errors import BaselineUnavailableError, BreakerUnreachableError
from runner.forecast.answers import ModelOutcome
from runner.forecast.forecaster import BaselinePort
from runner.types import (
    Bands,
    BreakerCommand,
    BreakerState,
    FallbackReason,
    ModelFailure,
    ModelRequest,
    Transform,
)
from serve_app.remote.call_coalescer import CallCoalescer, ItemBatch, NumberedAnswers, NumberedItems

logger = logging.getLogger(__name__)
WARM_UP_LIMIT_S = 5.0
FORGET_LIMIT_S = 5.0
COMMAND_LIMIT_S = 5.0  # an operator waits longer than a forecast may
# We send arrays and dataclasses of importable modules, which the C pickler handles: one item of 288
# points takes it 23 us where Serve's default, cloudpickle, takes 78.
PICKLED: dict[str, Any] = {"request_serialization": "pickle", "response_serialization": "pickle"}
LOST = ModelFailure(FallbackReason.RUNNER_UNAVAILABLE, BreakerState.CLOSED)


class RunnerHandle:
    """The way to the Runner deployment; single items that leave together share a call."""

    def __init__(self, handle: DeploymentHandle[Any], name: str, batching: BatchingSection) -> None:
        self._handle = handle
        self._stream = handle.options(method_name="forecast", stream=True, **PICKLED)
        self._command = handle.options(method_name="command", **PICKLED)
        self._name = name
        self._bulk_numbers = count(-1, -1)  # never those of single items
        self._shared: CallCoalescer[ModelRequest, ModelOutcome] = CallCoalescer(
            self._ask_twice, self._forget, batching.share_calls_s, batching.max_batch_size
        )

    async def forecast(self, request: ModelRequest) -> ModelOutcome:
        """One item's bands, or why there are none; a lost Runner is a reason like any other."""
        try:
            return await self._shared.ask(request.key.model, request)
        except Exception as exc:  # noqa: BLE001 - every failure of the hop has the same way out
            logger.warning("runner not reached: %s", type(exc).__name__)
            return LOST

    async def reach(self) -> None:
        """Makes the way to a Runner, and has it ready, with a call that asks for nothing."""
        await self.forecast_many([])

    async def forecast_many(self, requests: Sequence[ModelRequest]) -> Sequence[ModelOutcome]:
        """Each item's bands, or why there are none, in order."""
        items = list(zip(self._bulk_numbers, requests, strict=False))
        found: dict[int, ModelOutcome] = {}
        try:
            async for part in self._ask_twice(items):
                found.update(part)
        except Exception as exc:  # noqa: BLE001 - as above
            logger.warning("runner not reached: %s", type(exc).__name__)
        return [found.get(number, LOST) for number, _ in items]

    async def _ask_twice(
        self, items: NumberedItems[ModelRequest]
    ) -> AsyncIterator[NumberedAnswers[ModelOutcome]]:
        """A Runner that dies under the call is asked once more; a forecast does no harm twice."""
        left = dict(items)
        try:
            async for part in self._ask(items):
                for number, _ in part:
                    del left[number]
                yield part
        except RayActorError:
            async for part in self._ask(list(left.items())):
                yield part

    async def _ask(
        self, items: NumberedItems[ModelRequest]
    ) -> AsyncIterator[NumberedAnswers[ModelOutcome]]:
        response: Any = self._stream.remote(ItemBatch(self._name, items))
        try:
            async for part in response:
                yield part
        except asyncio.CancelledError:
            response.cancel()
            raise

    async def _forget(self, numbers: Sequence[int]) -> None:
        """Any Runner may hold them, and those that do not know them do not mind."""
        try:
            told = self._handle.broadcast("forget", self._name, numbers)
            await told.results_async(timeout_s=FORGET_LIMIT_S, return_exceptions=True)
        except Exception as exc:  # noqa: BLE001 - the work is done for nobody, no more than that
            logger.debug("runners not told who left: %s", type(exc).__name__)

    async def command(self, model: str, command: BreakerCommand) -> BreakerState:
        """The state of a model's breaker after an operator's command.

        Raises:
            BreakerUnreachableError: no Runner, or not the shared breaker behind it, took it.
        """
        try:
            async with asyncio.timeout(COMMAND_LIMIT_S):
                return await _call(self._command, model, command)  # type: ignore[no-any-return]
        except Exception as exc:
            logger.warning("breaker not reached: %s", type(exc).__name__)
            raise BreakerUnreachableError from exc


class BaselineHandle:
    """The way to the Baseline deployment; single items that leave together share a call."""

    def __init__(self, handle: DeploymentHandle[Any], batching: BatchingSection) -> None:
        self._handle = handle.options(method_name="forecast", **PICKLED)
        self._shared: CallCoalescer[BaselineRequest, Bands] = CallCoalescer(
            self._send, _no_need, batching.share_calls_s, batching.max_batch_size
        )

    async def forecast(self, requests: Sequence[BaselineRequest]) -> Sequence[Bands]:
        """Bands of every item, in order.

        Raises:
            BaselineUnavailableError: the deployment did not answer.
        """
        try:
            if len(requests) == 1:
                return [await self._shared.ask(None, requests[0])]
            return await _call(self._handle, requests)  # type: ignore[no-any-return]
        except Exception as exc:
            logger.warning("baseline not reached: %s", type(exc).__name__)
            raise BaselineUnavailableError from exc

    async def _send(
        self, items: NumberedItems[BaselineRequest]
    ) -> AsyncIterator[NumberedAnswers[Bands]]:
        bands = await _call(self._handle, [request for _, request in items])
        yield [(number, b) for (number, _), b in zip(items, bands, strict=True)]


async def _no_need(_: Sequence[int]) -> None:
    """A baseline takes less time than the news that nobody wants it."""


async def warm_up(runner: RunnerHandle, baseline: BaselinePort, config: Config) -> None:
    """A call of each kind before the first caller needs one: a handle's first call takes a second.

    A deployment that is not up yet holds nobody up: without it the ingress answers by itself.
    """
    item = _flat(config)
    baseline_bands([item], config.baseline, config.bands)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WARM_UP_LIMIT_S):
            await asyncio.gather(runner.reach(), _reach(baseline, item))


def _flat(config: Config) -> BaselineRequest:
    """The plainest thing that can be asked."""
    request = config.request
    transform = Transform(config.transform.space, config.transform.eps)
    flat = np.full(config.fallback.min_points_for_tsfm, 0.5)
    return BaselineRequest(flat, request.horizon_steps, request.quantiles, transform)


async def _reach(baseline: BaselinePort, item: BaselineRequest) -> None:
    with contextlib.suppress(BaselineUnavailableError):
        await baseline.forecast([item])


async def _call(handle: DeploymentHandle[Any], *arguments: object) -> Any:
    """The answer of a handle call; cancelling us cancels the work at the other end."""
    response: Any = handle.remote(*arguments)
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise
