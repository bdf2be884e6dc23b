"""Counts and latencies of one ingress replica's last ten minutes of answers, in bounded memory.

They are kept in slots of ten seconds. A slot counts latencies in buckets, eight per octave, so that
a percentile is right within 5 %. Percentiles are computed on request.
"""

from array import array
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from runner.types import FallbackReason

SLOT_S = 10
KEPT_S = 600
_EDGES_MS = (2.0 ** (np.arange(8 * 23) / 8 - 7)).tolist()  # 8 us to 60 s


@dataclass(slots=True, eq=False)
class Slot:
    """The answers since ``began`` on the replica's clock; shares are None where there are none."""

    began: float
    latencies: "array[int]" = field(default_factory=lambda: array("L", [0] * (len(_EDGES_MS) + 1)))
    requests: int = 0
    cache_hits: int = 0
    reasons: Counter[FallbackReason] = field(default_factory=Counter)

    def share(self, count: int) -> float | None:
        """``count`` as a fraction of all answers."""
        return count / self.requests if self.requests else None

    def percentile_ms(self, fraction: float) -> float | None:
        """The middle of the bucket that contains this fraction of the latencies."""
        counts = np.cumsum(self.latencies)
        if counts[-1] == 0:
            return None
        index = int(np.searchsorted(counts, fraction * counts[-1]))
        return float(round(_EDGES_MS[min(index, len(_EDGES_MS) - 1)] * 2 ** (-1 / 16), 3))


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
            slot.latencies[bisect_left(_EDGES_MS, latency_ms)] += 1
        if reason is not None:
            slot.reasons[reason] += 1

    @property
    def uptime_s(self) -> float:
        """Seconds since the replica started."""
        return self._clock() - self._began

    def last(self, window_s: float) -> Slot:
        """The answers of about the last ``window_s``, the current slot included."""
        slots = self.slots()
        total = Slot(slots[-1].began + SLOT_S - window_s)
        for slot in slots:
            if slot.began >= total.began:
                total.latencies = array("L", map(int.__add__, total.latencies, slot.latencies))
                total.requests += slot.requests
                total.cache_hits += slot.cache_hits
                total.reasons += slot.reasons
        return total

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
