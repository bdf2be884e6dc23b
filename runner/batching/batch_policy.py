"""Which waiting items travel in the next call, which are too late, and which may wait at all.

Pure decisions over items in order of arrival; times are arguments on one clock.

**The batch** (`plan_batch`). A call is made for items of one class, the lead class. Items of
the other class, the fill, take the places left over.

    lead   the largest batch whose items all finish in time; an item that cannot be in it is lost
    fill   in order, while places, bytes and the tightest deadline in the batch allow

**Admission** (`AdmissionControl`). While interactive items arrive, calls are kept short, so that an
item that arrives just after a call began still meets its deadline. An item that would not be in the
next call and not in time is refused: the baseline at once is better than the model too late.

A burst may wait long, because it drains. Lasting overload may not: a queue that stays long only
delays every item. The two are told apart as CoDel does for packets (Nichols and Jacobson,
"Controlling queue delay", ACM Queue 10(5), 2012): a queue that was long without a break for a while
is kept short until no item has been refused for a moment. Meanwhile bulk items wait behind the
others, and are lost where that lasts until their deadline.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import nlargest
from math import inf
from typing import Generic, Protocol, TypeVar

from runner.batching.latency_model import CallLatency
from runner.config.sections import BatchingSection


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


COMPANY_S = 1.0  # so long after an interactive item others are expected to come
COMPANY_FACTOR = 1.25  # a lone item may take longer than any call should: others come along
BURST_S = 0.3  # a line that was long for so long is no burst
OVERLOAD_S = 1.0  # so long after one was turned away lines are kept short, bulk items held back


class AdmissionControl:
    """What is remembered of one model queue."""

    def __init__(self, settings: BatchingSection) -> None:
        self._settings = settings
        self._free_at = 0.0
        self._company_until = 0.0
        self._overloaded_until = 0.0
        self._long_since = inf
        # who was turned away, and when: no more than a line would have held
        self._turned_away: deque[float] = deque(maxlen=settings.max_queued_items)

    def began(self, expected_s: float, begins: float) -> None:
        """A call left that the runtime turns to at ``begins``, for ``expected_s`` or so."""
        self._free_at = begins + expected_s

    def longest_call_s(self, latency: CallLatency, now: float) -> float:
        """How long a call may be expected to take.

        Where a call costs much and an item little, small calls would only be more calls.
        """
        alone_s = latency.seconds(1)
        longest_s = max(self._settings.max_call_s, COMPANY_FACTOR * alone_s)
        if not self.expects_company(now):
            return longest_s
        return min(longest_s, max(self._settings.prompt_call_s, 2 * alone_s))

    def on_interactive_arrival(self, now: float) -> None:
        """An interactive item has come."""
        self._company_until = now + COMPANY_S

    def expects_company(self, now: float) -> bool:
        """Whether interactive items came a moment ago, so that others are expected."""
        return now < self._company_until

    def admits(self, ahead: int, limits: BatchLimits) -> bool:
        """Whether one more may wait behind ``ahead`` others, given when its call could begin."""
        wait_s, now = self._wait_s(ahead, limits), limits.now
        if wait_s <= self._settings.overload_wait_s:
            self._long_since = inf
            return True
        self._long_since = min(self._long_since, now)
        if wait_s <= self._settings.max_wait_s and not self._lasts(now):
            return True
        self._overloaded_until = now + OVERLOAD_S
        self._turned_away.append(now)
        return False

    def turned_away(self, now: float) -> int:
        """How many would be in line as well, had each been let in to wait as in a burst."""
        gone = self._turned_away
        while gone and now - gone[0] >= self._settings.max_wait_s:
            gone.popleft()
        return len(gone)

    def _wait_s(self, ahead: int, limits: BatchLimits) -> float:
        """Until the end of its call; 0 for whoever is in the next one, however long that takes."""
        places = capacity_of(limits) * self._settings.slots_per_model
        if ahead < places:
            return 0.0
        calls_s = (1 + ahead // places) * limits.latency.seconds(capacity_of(limits))
        return max(0.0, self._free_at - limits.now) + calls_s

    def _lasts(self, now: float) -> bool:
        """Whether the line is long for more than a burst."""
        return now < self._overloaded_until or now - self._long_since >= BURST_S

    def holds_bulk(self, now: float) -> bool:
        """Whether bulk items stay in line while others wait."""
        return now < self._overloaded_until
