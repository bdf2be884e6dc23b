"""Calls of the Runner, the Baseline and the actors over Ray's handles.

Single items for one deployment share calls (`shared_calls.py`). A handle can fail in many ways
(replica died, unreachable, overloaded, not deployed), and each has the same effect on a request: it
gets the next best answer. So every failure of the Runner becomes a value.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from itertools import count
from typing import Any, TypeVar

import numpy as np
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

from runner.baseline.ewma_bands import BaselineRequest, baseline_bands
from runner.config.loading import Config
from runner.config.sections import BatchingSection
from runner.errors import BaselineUnavailableError, BreakerUnreachableError
from runner.forecast.answers import ModelOutcome
from runner.forecast.forecaster import BaselinePort, OutcomesReady
from runner.types import (
    Bands,
    BreakerCommand,
    BreakerState,
    FallbackReason,
    ModelFailure,
    ModelRequest,
    Transform,
)
from serve_app.remote.shared_calls import CallCoalescer, ItemBatch, NumberedAnswers, NumberedItems

Q = TypeVar("Q")
logger = logging.getLogger(__name__)
WARM_UP_LIMIT_S = 5.0
FORGET_LIMIT_S = 5.0
COMMAND_LIMIT_S = 5.0  # an operator can wait longer than a forecast
# We send arrays and dataclasses of importable modules, which the C pickler handles: one item of 288
# points takes it 23 us; Serve's default, cloudpickle, takes 78.
PICKLED: dict[str, Any] = {"request_serialization": "pickle", "response_serialization": "pickle"}
# A call takes 3 ms, of which 0.1 ms for each item. One call at a time is twice as fast as one every
# 4 ms when all requests need the baseline; a call that takes longer than this delays no other.
BASELINE_CALL_S = 0.02
LOST = ModelFailure(FallbackReason.RUNNER_UNAVAILABLE, BreakerState.CLOSED)


class RunnerHandle:
    """Client of the Runner deployment; single items of about the same time share a call."""

    def __init__(self, handle: DeploymentHandle[Any], name: str, batching: BatchingSection) -> None:
        self._handle = handle
        self._stream = handle.options(method_name="forecast", stream=True, **PICKLED)
        self._command = handle.options(method_name="command", **PICKLED)
        self._name = name
        self._bulk_numbers = count(-1, -1)  # negative, so distinct from those of single items
        self._shared: CallCoalescer[ModelRequest, ModelOutcome] = CallCoalescer(
            self._ask_twice, self._forget, batching.share_calls_s, batching.max_batch_size
        )

    async def forecast(self, request: ModelRequest) -> ModelOutcome:
        """One item's bands or failure; an unreachable Runner is a failure too."""
        try:
            return await self._shared.ask(request.key.model, request)
        except Exception as exc:  # noqa: BLE001 - every failure of the call has the same answer
            logger.warning("runner not reached: %s", type(exc).__name__)
            return LOST

    async def forecast_many(
        self, requests: Sequence[ModelRequest]
    ) -> AsyncGenerator[OutcomesReady]:
        """Each item's bands or failure with its index, as they become ready."""
        items = list(zip(self._bulk_numbers, requests, strict=False))
        index_of = {number: index for index, (number, _) in enumerate(items)}
        try:
            async for part in self._ask_twice(items):
                yield [(index_of.pop(number), outcome) for number, outcome in part]
        except Exception as exc:  # noqa: BLE001 - as above
            logger.warning("runner not reached: %s", type(exc).__name__)
        yield [(index, LOST) for index in index_of.values()]

    async def _ask_twice(
        self, items: NumberedItems[ModelRequest]
    ) -> AsyncIterator[NumberedAnswers[ModelOutcome]]:
        """Calls once more if the Runner dies during the call; a repeated forecast does no harm."""
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
        """Sent to all Runners, as any may have the items; unknown numbers have no effect."""
        try:
            responses = self._handle.broadcast("forget", self._name, numbers)
            await responses.results_async(timeout_s=FORGET_LIMIT_S, return_exceptions=True)
        except Exception as exc:  # noqa: BLE001 - the only effect is some unnecessary work
            logger.debug("abandoned items not cancelled: %s", type(exc).__name__)

    async def command(self, model: str, command: BreakerCommand) -> BreakerState:
        """Sends an operator's command; returns the new state of the model's breaker.

        Raises:
            BreakerUnreachableError: no Runner, or no breaker actor, received it.
        """
        try:
            async with asyncio.timeout(COMMAND_LIMIT_S):
                return await _call(self._command, model, command)  # type: ignore[no-any-return]
        except Exception as exc:
            logger.warning("breaker not reached: %s", type(exc).__name__)
            raise BreakerUnreachableError from exc


class BaselineHandle:
    """Client of the Baseline deployment; single items of about the same time share a call."""

    def __init__(self, handle: DeploymentHandle[Any], batching: BatchingSection) -> None:
        self._handle = handle.options(method_name="forecast", **PICKLED)
        self._shared: CallCoalescer[BaselineRequest, Bands] = CallCoalescer(
            self._send, _no_need, BASELINE_CALL_S, batching.max_batch_size
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
    """Does nothing: computing a baseline takes less time than cancelling it."""


async def warm_up(runner: RunnerHandle, baseline: BaselinePort, config: Config) -> None:
    """One call of each kind before the first request: a handle's first call takes a second.

    A deployment that is not up yet delays nothing: without it the ingress computes baselines.
    """
    request = config.request
    transform = Transform(config.transform.space, config.transform.eps)
    flat = np.full(config.fallback.min_points_for_tsfm, 0.5)
    item = BaselineRequest(flat, request.horizon_steps, request.quantiles, transform)
    baseline_bands([item], config.baseline, config.bands)
    calls = _all_of(runner.forecast_many([])), baseline.forecast([item])
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WARM_UP_LIMIT_S):
            await asyncio.gather(*calls, return_exceptions=True)


async def _all_of(parts: AsyncIterator[Q]) -> list[Q]:
    return [part async for part in parts]


async def _call(handle: DeploymentHandle[Any], *arguments: object) -> Any:
    """The answer of a handle call; cancelling this cancels the call in the other process too."""
    response: Any = handle.remote(*arguments)
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


class ReconnectingActor:
    """Calls methods of an actor that may be restarted under a new handle.

    ``look_up`` returns the handle, and raises while there is no such actor. It may block for a
    minute while the head node is lost: it runs in a thread, and never more than one at a time.
    """

    def __init__(self, look_up: Callable[[], Any]) -> None:
        self._look_up = look_up
        self._handle: asyncio.Future[Any] | None = None

    async def call(self, method: str, *args: object) -> Any:
        """One round trip; raises what the lookup, Ray or the method raises."""
        handle = self._handle
        if handle is None:
            handle = self._handle = asyncio.ensure_future(asyncio.to_thread(self._look_up))
        answered = False
        try:
            answer = await getattr(await asyncio.shield(handle), method).remote(*args)
            answered = True
            return answer
        finally:
            if not answered and handle.done() and self._handle is handle:
                self._handle = None
