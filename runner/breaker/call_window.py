"""Counts of the calls of the last seconds, in a fixed number of buckets.

A bucket collects calls for a tenth of the window and is dropped as a whole one window after it
began, so memory stays constant at any rate and the counts are at most a tenth of the window short.
"""

from collections import deque
from dataclasses import dataclass

BUCKETS = 10

WindowRow = tuple[float, int, int, int]  # age in seconds of the bucket's start, calls, failed, slow


@dataclass(frozen=True, slots=True)
class CallCounts:
    """How many calls there were, and how many of them failed or were slow (or both)."""

    calls: int = 0
    failed: int = 0
    slow: int = 0


class CallWindow:
    """The calls of the last ``window_s`` seconds; time is an argument and never decreases."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._buckets: deque[tuple[float, CallCounts]] = deque()  # (start, counts), oldest first

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """Adds a call that ended now; old calls are dropped when the counts are next read."""
        if not self._buckets or now - self._buckets[-1][0] >= self._window_s / BUCKETS:
            self._buckets.append((now, CallCounts()))
        start, counts = self._buckets.pop()
        grown = CallCounts(counts.calls + 1, counts.failed + failed, counts.slow + slow)
        self._buckets.append((start, grown))

    def counts(self, now: float) -> CallCounts:
        """The counts of all calls in the window."""
        self._forget(now)
        kept = [counts for _, counts in self._buckets]
        return CallCounts(
            sum(c.calls for c in kept), sum(c.failed for c in kept), sum(c.slow for c in kept)
        )

    def clear(self) -> None:
        """Drops every call."""
        self._buckets.clear()

    def snapshot(self, now: float) -> list[WindowRow]:
        """The buckets with ages instead of times, for JSON and for another clock."""
        self._forget(now)
        return [(now - start, c.calls, c.failed, c.slow) for start, c in self._buckets]

    def adopt(self, rows: list[WindowRow], now: float) -> None:
        """Replaces all buckets by those of a snapshot."""
        self._buckets = deque(
            (now - age_s, CallCounts(calls, failed, slow)) for age_s, calls, failed, slow in rows
        )

    def _forget(self, now: float) -> None:
        while self._buckets and now - self._buckets[0][0] >= self._window_s:
            self._buckets.popleft()
