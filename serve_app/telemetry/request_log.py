"""What is logged about requests: each one at DEBUG; at INFO one line a minute per fallback reason.

Lines hold request ids, reasons and times, and nothing of what callers sent.
"""

import logging
from dataclasses import dataclass

from runner.forecast.answers import Forecast
from runner.types import FallbackReason, Source
from serve_app.telemetry.timings import Timings

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Told:
    at: float
    since: int = 0


class RequestLog:
    """The log of one replica; ``every_s`` is how often a reason may be told."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._told: dict[FallbackReason, _Told] = {}

    @property
    def every_request(self) -> bool:
        """Whether each request has a line."""
        return logger.isEnabledFor(logging.DEBUG)

    def kept(self, request_id: str, total_ms: float) -> None:
        """One answer from bytes that were kept."""
        fields = {"request_id": request_id, "source": Source.MODEL.value, "reason": None}
        logger.debug("answered", extra={**fields, "cached": True, "total_ms": round(total_ms, 3)})

    def answered(self, request_id: str, forecast: Forecast, stages: Timings) -> None:
        """One answer."""
        fields = {
            "request_id": request_id,
            "source": forecast.source.value,
            "reason": forecast.fallback_reason,
            "model": forecast.plan.key.model,
            "cached": forecast.cache_age_s is not None,
            "admission_ms": stages.admission_ms,
            "queue_ms": stages.queue_ms,
            "runtime_ms": stages.runtime_ms,
            "post_ms": stages.post_ms,
            "total_ms": stages.total_ms,
        }
        rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in fields.items()}
        logger.debug("answered", extra=rounded)

    def fell_back(self, now: float, reason: FallbackReason) -> None:
        """One fallback; the first is told at once, the next with how many came in between."""
        told = self._told.get(reason)
        if told is not None and now < told.at + self._every_s:
            told.since += 1
            return
        count = 1 if told is None else told.since + 1
        self._told[reason] = _Told(now)
        logger.info("fell back", extra={"reason": reason.value, "count": count})
