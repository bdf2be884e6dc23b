"""Counts and latencies of one ingress replica's last ten minutes of answers, in bounded memory.

They are kept in slots of ten seconds. A slot counts latencies in buckets, eight per octave, so that
a percentile is right within 5 %. Percentiles are computed on request.
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
    """The answers of ten seconds; ``began`` is on the replica's clock."""

    began: float
    latencies: "array[int]" = field(default_factory=lambda: array("L", bytes(8 * _BUCKETS)))
    requests: int = 0
    cache_hits: int = 0
    reasons: Counter[FallbackReason] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Summary:
    """The sum of some slots; shares and percentiles are None where nothing was answered."""

    requests: int
    reasons: Counter[FallbackReason]
    fallback_share: float | None
    cache_hit_share: float | None
    p50_ms: float | None
    p95_ms: float | None


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
        """Counts one answer, sent at ``now`` on the clock; items of batches have no latency."""
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
        """Seconds since the replica started."""
        return self._clock() - self._began

    def last(self, window_s: float) -> Summary:
        """The answers of about the last ``window_s``, the current slot included."""
        slots = self.slots()
        since = slots[-1].began + SLOT_S - window_s
        return summary(slot for slot in slots if slot.began >= since)

    def slots(self) -> Sequence[Slot]:
        """Every kept slot, oldest first; the last one is the current slot."""
        if self._clock() >= self._current.began + SLOT_S:
            self._turn(self._clock())
        return tuple(self._slots)

    def at(self, slot: Slot) -> datetime:
        """The start of a slot, in UTC."""
        return datetime.fromtimestamp(slot.began + self._posix_offset_s, UTC)

    def _turn(self, now: float) -> None:
        """Opens slots up to ``now``; after a long pause only those that will be kept."""
        missed = int((now - self._current.began) // SLOT_S)
        first = self._current.began + SLOT_S * missed
        for back in range(min(missed, KEPT_S // SLOT_S) - 1, -1, -1):
            self._slots.append(Slot(first - SLOT_S * back))
        self._current = self._slots[-1]


def summary(slots: Iterable[Slot]) -> Summary:
    """The sum of some slots."""
    latencies, requests, cache_hits = np.zeros(_BUCKETS), 0, 0
    reasons: Counter[FallbackReason] = Counter()
    for slot in slots:
        latencies += np.asarray(slot.latencies)
        requests += slot.requests
        cache_hits += slot.cache_hits
        reasons += slot.reasons
    return Summary(
        requests,
        reasons,
        reasons.total() / requests if requests else None,
        cache_hits / requests if requests else None,
        _percentile(latencies, 0.5),
        _percentile(latencies, 0.95),
    )


def _bucket(latency_ms: float) -> int:
    if latency_ms <= 0.0:
        return 0
    index = int(_PER_OCTAVE * (math.log2(latency_ms) - _FIRST_OCTAVE))
    return min(max(index, 0), _BUCKETS - 1)


def _percentile(latencies: FloatArray, share: float) -> float | None:
    """The middle of the bucket that contains the share, in ms; None when all are empty."""
    total = latencies.sum()
    if total == 0:
        return None
    index = int(np.searchsorted(np.cumsum(latencies), share * total))
    return float(round(2.0 ** ((index + 0.5) / _PER_OCTAVE + _FIRST_OCTAVE), 3))
