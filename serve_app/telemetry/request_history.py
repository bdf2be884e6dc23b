"""What one ingress replica has answered in the last minutes: counts and times, in bounded memory.

Ten minutes are kept in slots of ten seconds. A slot counts latencies in buckets whose edges rise by
a twelfth, so that a percentile is right within 5 %; what is asked of them is worked out when asked.
"""

import math
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from runner.types import FallbackReason, FloatArray

SLOT_S = 10
KEPT_S = 600
_PER_OCTAVE = 8
_FIRST_OCTAVE = -7  # 8 us
_BUCKETS = _PER_OCTAVE * 23  # up to 65 s


@dataclass(slots=True, eq=False)
class Slot:
    """What was answered in ten seconds; ``began`` is on the replica's clock."""

    began: float
    latencies: "array[int]" = field(default_factory=lambda: array("L", bytes(8 * _BUCKETS)))
    requests: int = 0
    cache_hits: int = 0
    reasons: Counter[FallbackReason] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Summary:
    """Slots taken together; shares and percentiles are None where nothing was answered."""

    requests: int
    cache_hits: int
    reasons: Counter[FallbackReason]
    p50_ms: float | None
    p95_ms: float | None

    @property
    def fallbacks(self) -> int:
        """Answers that were not fresh ones of the model."""
        return self.reasons.total()

    @property
    def fallback_share(self) -> float | None:
        """Of all answers, in [0, 1]."""
        return self.fallbacks / self.requests if self.requests else None

    @property
    def cache_hit_share(self) -> float | None:
        """Of all answers, in [0, 1]."""
        return self.cache_hits / self.requests if self.requests else None


class RequestHistory:
    """Counts answers; ``clock`` is monotonic, ``wall_clock`` POSIX seconds, read once."""

    def __init__(self, clock: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._posix_offset_s = wall_clock() - self._began
        self._slots: deque[Slot] = deque([Slot(self._began)], maxlen=KEPT_S // SLOT_S)
        self._current = self._slots[-1]

    def answered(
        self, now: float, latency_ms: float | None, reason: FallbackReason | None, *, cached: bool
    ) -> None:
        """One answer left at ``now`` (on the clock); one of many at once has no time of its own."""
        if now >= self._current.began + SLOT_S:
            self._turn(now)
        slot = self._current
        slot.requests += 1
        slot.cache_hits += cached
        if latency_ms is not None:
            slot.latencies[_bucket(latency_ms)] += 1
        if reason is not None:
            slot.reasons[reason] += 1

    @property
    def uptime_s(self) -> float:
        """Since the replica began."""
        return self._clock() - self._began

    def last(self, window_s: float) -> Summary:
        """What was answered in about the last ``window_s``, the running slot included."""
        slots = self.slots()
        since = slots[-1].began + SLOT_S - window_s
        return summary(slot for slot in slots if slot.began >= since)

    def slots(self) -> Sequence[Slot]:
        """Every slot kept, oldest first; the last one is still running."""
        if self._clock() >= self._current.began + SLOT_S:
            self._turn(self._clock())
        return tuple(self._slots)

    def at(self, slot: Slot) -> datetime:
        """When a slot began, UTC."""
        return datetime.fromtimestamp(slot.began + self._posix_offset_s, UTC)

    def _turn(self, now: float) -> None:
        """Opens slots up to ``now``; after a long silence only those that will be kept."""
        missed = int((now - self._current.began) // SLOT_S)
        first = self._current.began + SLOT_S * missed
        for back in range(min(missed, KEPT_S // SLOT_S) - 1, -1, -1):
            self._slots.append(Slot(first - SLOT_S * back))
        self._current = self._slots[-1]


def summary(slots: Iterable[Slot]) -> Summary:
    """Slots taken together."""
    chosen = list(slots)
    latencies = np.zeros(_BUCKETS)
    reasons: Counter[FallbackReason] = Counter()
    for slot in chosen:
        latencies += np.asarray(slot.latencies)
        reasons += slot.reasons
    return Summary(
        sum(slot.requests for slot in chosen),
        sum(slot.cache_hits for slot in chosen),
        reasons,
        _percentile(latencies, 0.5),
        _percentile(latencies, 0.95),
    )


def _bucket(latency_ms: float) -> int:
    if latency_ms <= 0.0:
        return 0
    index = int(_PER_OCTAVE * (math.log2(latency_ms) - _FIRST_OCTAVE))
    return min(max(index, 0), _BUCKETS - 1)


def _percentile(latencies: FloatArray, share: float) -> float | None:
    """The middle of the bucket that the share falls into, in ms; None when all are empty."""
    total = latencies.sum()
    if total == 0:
        return None
    index = int(np.searchsorted(np.cumsum(latencies), share * total))
    return float(round(2.0 ** ((index + 0.5) / _PER_OCTAVE + _FIRST_OCTAVE), 3))
