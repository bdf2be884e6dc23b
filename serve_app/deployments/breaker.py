"""The actor that holds the breakers for all replicas; the decisions are in `runner.breaker`."""

import random
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from runner.breaker.shared import SharedBreakers, SyncReply, SyncRequest
from runner.config.sections import CircuitBreakerSection
from runner.types import BreakerCommand, BreakerState

BREAKER = "breaker"


class BreakerActor:
    """A plain class for Ray to wrap: one instance per application, its state lost with it.

    The constructor does nothing that can fail: Serve 2.60 starts no Runner while it fails. Wrong
    settings raise in the methods instead, and then each replica decides on its own copy.

    Args:
        settings: of every breaker; Serve converts a pydantic model to a dict on the way here.
    """

    def __init__(self, settings: CircuitBreakerSection | Mapping[str, Any]) -> None:
        self._settings = settings
        self._made: SharedBreakers | None = None

    async def sync(self, request: SyncRequest) -> SyncReply:
        """See `SharedBreakers.sync`."""
        return self._shared().sync(request)

    async def command(self, names: Sequence[str], command: BreakerCommand) -> BreakerState:
        """See `SharedBreakers.command`."""
        return self._shared().command(names, command)

    def _shared(self) -> SharedBreakers:
        if self._made is None:
            settings = CircuitBreakerSection.model_validate(self._settings)
            life = uuid.uuid4().hex
            self._made = SharedBreakers(settings, time.monotonic, random.random, life)
        return self._made
