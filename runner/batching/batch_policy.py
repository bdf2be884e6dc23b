"""Which waiting items travel in the next call, and which are told that they are too late.

Pure decisions over items in order of arrival. A call has a *lead* class, for whose sake it is made,
and a *fill* class that takes the places left over and must not make a leading item late.

    lead   the largest batch whose members all finish in time; whoever cannot be among them is lost
    fill   in order, while places, bytes and the tightest deadline on board allow
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import nlargest
from math import inf
from typing import Generic, Protocol, TypeVar

from runner.batching.latency_model import CallLatency


class Batchable(Protocol):
    """What a decision needs to know about an item."""

    @property
    def deadline(self) -> float:
        """When its answer is due, on the dispatcher's clock, in seconds."""
        ...

    @property
    def size_bytes(self) -> int:
        """Its part of the request body."""
        ...


C = TypeVar("C", bound=Batchable)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Bounds of one call.

    Attributes:
        max_items: series in a call, >= 1.
        max_bytes: body size; a single item may pass it, the runtime will say so.
        max_call_s: expected seconds of a call; a single item may pass it.
        call_time: what calls of this key are expected to take.
        now: the time of the cut.
    """

    max_items: int
    max_bytes: int
    max_call_s: float
    latency: CallLatency
    now: float

    def finish(self, n: int) -> float:
        """When a call of ``n`` items that starts now is expected to end."""
        return self.now + self.latency.seconds(n)


@dataclass(frozen=True, slots=True)
class BatchPlan(Generic[C]):
    """``send`` travels now; ``lost`` cannot be answered in time any more."""

    send: list[C]
    lost: list[C]


def plan_batch(lead: Sequence[C], fill: Iterable[C], limits: BatchLimits) -> BatchPlan[C]:
    """The next call, given the waiting items of one key, each class in order of arrival.

    With a lead there is always progress: something is sent or lost. Whoever is passed over is lost,
    because the slot is then taken for longer than the item's deadline allows.
    """
    places = capacity_of(limits)
    plan: BatchPlan[C] = BatchPlan([], [])
    used_bytes = _take_lead(plan, lead, places, limits)
    _take_fill(plan, fill, places, used_bytes, limits)
    return plan


def capacity_of(limits: BatchLimits) -> int:
    """How many items a call has room for."""
    sizes = range(1, limits.max_items + 1)
    return max(1, bisect_right(sizes, limits.max_call_s, key=limits.latency.seconds))


def _take_lead(plan: BatchPlan[C], lead: Sequence[C], places: int, limits: BatchLimits) -> int:
    n = _most_in_time(lead, places, limits)
    finish = limits.finish(n)
    used_bytes = 0
    for item in lead:
        if len(plan.send) == n:
            break
        if item.deadline < finish:
            plan.lost.append(item)
            continue
        if plan.send and used_bytes + item.size_bytes > limits.max_bytes:
            break
        plan.send.append(item)
        used_bytes += item.size_bytes
    return used_bytes


def _most_in_time(lead: Sequence[C], places: int, limits: BatchLimits) -> int:
    """The size of the largest call whose members are all in time (1 when there is none).

    Sending everybody in order makes large calls late for their oldest members; shrinking the call
    for the oldest member makes calls small just when there is most to do.
    """
    n = min(len(lead), places)
    finish = limits.finish(n)
    if all(item.deadline >= finish for item in lead[:n]):
        return n
    latest = nlargest(n, (item.deadline for item in lead))
    return max(1, sum(due >= limits.finish(i) for i, due in enumerate(latest, start=1)))


def _take_fill(
    plan: BatchPlan[C], fill: Iterable[C], places: int, used_bytes: int, limits: BatchLimits
) -> None:
    tightest = min((item.deadline for item in plan.send), default=inf)
    for item in fill:
        finish = limits.finish(len(plan.send) + 1)
        if len(plan.send) >= places or finish > tightest:
            break
        if item.deadline < finish:
            plan.lost.append(item)
            continue
        if plan.send and used_bytes + item.size_bytes > limits.max_bytes:
            break
        plan.send.append(item)
        used_bytes += item.size_bytes
        tightest = min(tightest, item.deadline)
