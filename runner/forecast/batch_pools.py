"""The requests of one batch, pooled and cut into chunks that fit into one runtime call."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from runner.forecast.resolved_request import ResolvedRequest
from runner.types import BatchKey, FallbackReason

T = TypeVar("T")
EqualRequests = Sequence[tuple[int, ResolvedRequest]]  # with their numbers; they get the same bands
Failed = tuple[ResolvedRequest, FallbackReason]  # a request that the baseline must answer
MAX_CHUNK_BYTES = 2_000_000  # half of the limit of one call between replicas


class BatchPools:
    """The requests of one batch that are for the model, pooled by batch key, and the others.

    Equal requests are computed once: a later one joins the first, also while its call is running.
    """

    def __init__(self, max_chunk: int) -> None:
        self.ineligible: list[tuple[int, Failed]] = []
        self._max_chunk = max_chunk
        self._equal: dict[bytes, list[tuple[int, ResolvedRequest]]] = {}
        self._pools: dict[BatchKey, list[EqualRequests]] = {}
        self._full: list[BatchKey] = []

    def add(self, number: int, resolved: ResolvedRequest) -> None:
        """Adds a request to the pool of its key, or to an equal request."""
        equal = self._equal.setdefault(resolved.cache_key, [])
        equal.append((number, resolved))
        if len(equal) == 1:
            pool = self._pools.setdefault(resolved.key, [])
            pool.append(equal)
            if len(pool) == self._max_chunk:
                self._full.append(resolved.key)

    def close(self, chunk: Sequence[EqualRequests]) -> None:
        """The model has answered: no later request can join these."""
        for equal in chunk:
            del self._equal[equal[0][1].cache_key]

    def full_chunks(self) -> Iterator[list[EqualRequests]]:
        """Removes and returns the pools that have become full."""
        while self._full:
            yield from self._split(self._pools.pop(self._full.pop()))

    def chunks_left(self) -> Iterator[list[EqualRequests]]:
        """The other pools, each in chunks that fit into one runtime call."""
        for pool in self._pools.values():
            yield from self._split(pool)

    def _split(self, pool: Sequence[EqualRequests]) -> Iterator[list[EqualRequests]]:
        return split(pool, lambda equal: equal[0][1], self._max_chunk)


def split(
    items: Iterable[T], request_of: Callable[[T], ResolvedRequest], max_items: int
) -> Iterator[list[T]]:
    """The items in order, in parts of at most ``max_items`` and `MAX_CHUNK_BYTES`."""
    part: list[T] = []
    size = 0
    for item in items:
        added = size_bytes(request_of(item))
        if part and (len(part) == max_items or size + added > MAX_CHUNK_BYTES):
            yield part
            part, size = [], 0
        part.append(item)
        size += added
    if part:
        yield part


def size_bytes(resolved: ResolvedRequest) -> int:
    """Bytes that a request adds to a call between replicas, request and answer together."""
    sent = resolved.series.y_prob.nbytes * (1 + len(resolved.series.x_past))
    steps, levels = resolved.key.horizon_steps, len(resolved.key.levels)
    return sent + 8 * steps * (levels + len(resolved.request.x_future))
