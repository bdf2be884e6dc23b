"""A cache of answers: fresh for the time to live, then usable for a while if the model fails.

Only answers of the model are cached: a fallback would still be used after the outage. The time to
live is varied, so that answers computed together do not all expire together.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from runner.config.sections import CacheSection

V = TypeVar("V")
TTL_JITTER_FRACTION = 0.1  # spreads a cycle of markets over 6 of 60 s; more would cost hits


@dataclass(frozen=True, slots=True)
class Entry(Generic[V]):
    """One cached answer and its times on the cache's clock."""

    value: V
    stored_at: float
    fresh_until: float
    stale_until: float


class AnswerCache(Generic[V]):
    """A least-recently-used cache, bounded in entries; the time is an argument of each call.

    ``spread`` gives a number in [0, 1) for each entry: the fraction of the jitter that it gets.
    """

    def __init__(self, settings: CacheSection, spread: Callable[[], float]) -> None:
        self._settings = settings
        self._spread = spread
        self._entries: OrderedDict[Hashable, Entry[V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def fresh(self, key: Hashable, now: float) -> Entry[V] | None:
        """The entry of ``key``, if it is fresh."""
        entry = self._entries.get(key)
        if entry is None or now >= entry.fresh_until:
            return None
        self._entries.move_to_end(key)
        return entry

    def stale(self, key: Hashable, now: float) -> Entry[V] | None:
        """The entry of ``key``, if it may still be used for a model that fails."""
        entry = self._entries.get(key)
        return entry if entry is not None and now < entry.stale_until else None

    def put(self, key: Hashable, value: V, stored_at: float) -> Entry[V]:
        """Caches ``value``, computed at ``stored_at``; drops the least recently used entries."""
        settings = self._settings
        ttl_s = settings.ttl_s * (1.0 - TTL_JITTER_FRACTION * self._spread())
        fresh_until = stored_at + ttl_s
        entry = Entry(value, stored_at, fresh_until, fresh_until + settings.stale_if_error_s)
        self._entries[key] = entry
        self._entries.move_to_end(key)
        while len(self._entries) > settings.max_entries:
            self._entries.popitem(last=False)
        return entry
