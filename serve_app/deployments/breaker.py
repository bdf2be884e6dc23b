"""The breaker's actor as a process."""

import time
from collections.abc import Mapping
from typing import Any

from runner.sections import CircuitBreakerSection
from serve_app.breaker_actor import BreakerActor

BREAKER = "breaker"


class ClockedBreakerActor(BreakerActor):
    """The breaker actor with the clocks of the process it lives in."""

    def __init__(self, settings: CircuitBreakerSection | Mapping[str, Any]) -> None:
        super().__init__(settings, time.monotonic, time.time)
