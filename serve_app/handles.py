"""The forecaster's ports over Serve handles: whatever goes wrong on the way becomes a value.

A handle can fail in many ways (replica died, unreachable, overloaded, not deployed) and each of
them means the same to a caller's request: the next best answer.
"""

import asyncio
import logging
from typing import Any

from ray.serve.handle import DeploymentHandle

from runner.errors import BaselineUnavailableError
from runner.fallback import BaselineRequest
from runner.forecaster import Outcome
from runner.types import Bands, BreakerState, FallbackReason, ModelFailure, ModelRequest

logger = logging.getLogger(__name__)


class RunnerHandle:
    """The way to the Runner deployment."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def forecast(self, request: ModelRequest) -> Outcome:
        """One item's bands, or why there are none; a lost Runner is a reason like any other."""
        try:
            return await _call(self._handle.forecast, request)  # type: ignore[no-any-return]
        except Exception as exc:  # noqa: BLE001 - every failure of the hop has the same way out
            logger.warning("runner not reached: %s", type(exc).__name__)
            return ModelFailure(FallbackReason.RUNNER_UNAVAILABLE, BreakerState.CLOSED)


class BaselineHandle:
    """The way to the Baseline deployment."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def forecast(self, request: BaselineRequest) -> Bands:
        """One item's bands.

        Raises:
            BaselineUnavailableError: the deployment did not answer.
        """
        try:
            return await _call(self._handle.forecast, request)  # type: ignore[no-any-return]
        except Exception as exc:
            logger.warning("baseline not reached: %s", type(exc).__name__)
            raise BaselineUnavailableError from exc


async def _call(method: Any, request: object) -> Any:
    """The answer of a handle call; cancelling us cancels the work at the other end."""
    response = method.remote(request)
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise
