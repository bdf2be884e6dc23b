"""The forecaster's ports over Serve handles: whatever goes wrong on the way becomes a value.

A handle can fail in many ways (replica died, unreachable, overloaded, not deployed) and each of
them means the same to a caller's request: the next best answer.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

from runner.answers import Outcome
from runner.breaker_board import Command
from runner.config import Config
from runner.errors import BaselineUnavailableError, BreakerUnreachableError
from runner.fallback import BaselineRequest, baseline_bands
from runner.types import (
    Bands,
    BreakerState,
    FallbackReason,
    ModelFailure,
    ModelRequest,
    Transform,
)

logger = logging.getLogger(__name__)
WARM_UP_LIMIT_S = 5.0
COMMAND_LIMIT_S = 5.0  # an operator waits longer than a forecast may
# We send arrays and dataclasses of importable modules, which the C pickler handles: one item of 288
# points takes it 23 us where Serve's default, cloudpickle, takes 78.
PICKLED: dict[str, Any] = {"request_serialization": "pickle", "response_serialization": "pickle"}


class RunnerHandle:
    """The way to the Runner deployment."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle.options(method_name="forecast", **PICKLED)
        self._many = handle.options(method_name="forecast_many", **PICKLED)
        self._command = handle.options(method_name="command", **PICKLED)

    async def forecast(self, request: ModelRequest) -> Outcome:
        """One item's bands, or why there are none; a lost Runner is a reason like any other."""
        try:
            return await self._ask_twice(request)
        except Exception as exc:  # noqa: BLE001 - every failure of the hop has the same way out
            logger.warning("runner not reached: %s", type(exc).__name__)
            return ModelFailure(FallbackReason.RUNNER_UNAVAILABLE, BreakerState.CLOSED)

    async def _ask_twice(self, request: ModelRequest) -> Outcome:
        try:
            return await _call(self._handle, request)  # type: ignore[no-any-return]
        except RayActorError:  # it died under the call; a forecast does no harm twice
            return await _call(self._handle, request)  # type: ignore[no-any-return]

    async def forecast_many(self, requests: Sequence[ModelRequest]) -> Sequence[Outcome]:
        """Each item's bands, or why there are none, in order."""
        try:
            return await _call(self._many, requests)  # type: ignore[no-any-return]
        except Exception as exc:  # noqa: BLE001 - as above
            logger.warning("runner not reached: %s", type(exc).__name__)
            lost = ModelFailure(FallbackReason.RUNNER_UNAVAILABLE, BreakerState.CLOSED)
            return [lost] * len(requests)

    async def command(self, model: str, command: Command) -> BreakerState:
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
    """The way to the Baseline deployment."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle.options(method_name="forecast", **PICKLED)

    async def forecast(self, requests: Sequence[BaselineRequest]) -> Sequence[Bands]:
        """Bands of every item, in order.

        Raises:
            BaselineUnavailableError: the deployment did not answer.
        """
        try:
            return await _call(self._handle, requests)  # type: ignore[no-any-return]
        except Exception as exc:
            logger.warning("baseline not reached: %s", type(exc).__name__)
            raise BaselineUnavailableError from exc


async def warm_up(baseline: BaselineHandle, config: Config) -> None:
    """One fallback before the first caller needs one: the first call of a handle is slow.

    A baseline that is not up yet holds nobody up: the ingress computes the same bands itself.
    """
    request = config.request
    transform = Transform(config.transform.space, config.transform.eps)
    flat = np.full(config.fallback.min_points_for_tsfm, 0.5)
    item = BaselineRequest(flat, request.horizon_steps, request.quantiles, transform)
    baseline_bands([item], config.baseline, config.bands)
    with contextlib.suppress(TimeoutError, BaselineUnavailableError):
        await asyncio.wait_for(baseline.forecast([item]), WARM_UP_LIMIT_S)


async def _call(handle: DeploymentHandle[Any], *arguments: object) -> Any:
    """The answer of a handle call; cancelling us cancels the work at the other end."""
    response: Any = handle.remote(*arguments)
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise
