"""Which items may wait, which are in the next call, and whether a free slot waits for more.

Pure decisions over items in order of arrival; times are arguments on one clock.

**The batch** (`plan_batch`). A call is made for items of one class (interactive or bulk), the main
items. Items of the other class, the fill, take the places left over.

**Admission** (`AdmissionControl`). Interactive items are sent as soon as a slot is free, all that
wait: the longer the queue, the larger the call and the higher the rate. While interactive items
arrive, calls with bulk items are kept short, so that an item that arrives just after such a call
began is not delayed by it.

A queue may become long by a burst, which drains, but not by lasting overload: a long queue would
delay every item and gain nothing (Nichols and Jacobson, "Controlling queue delay", ACM Queue 10(5),
2012, make the same distinction for packets). Overload is an arrival rate that the runtime cannot
serve in short calls, while more items wait or are in calls than a call of `LOOP_CALL_S` holds.
Callers in a loop are not overload, because they wait for their answers: longer calls only slow them
down. So arrivals of callers who were just answered do not count, and as many callers as such a call
holds are never overload. It begins with such a rate, or with an item that would wait for longer
than ``max_wait_s``, and ends `OVERLOAD_S` after the last such sign or refusal. In between

    few items wait     as many as the next call takes if it is kept short; a baseline at once is
                       better than a model answer too late
    bulk items         wait for all interactive ones, and are lost if their deadline passes

**A free slot** (`ReturningCallers`) may wait a moment for the callers that were just answered. A
caller that sends one request after the other returns shortly after its answer. If the next call
leaves with the first of them, the others miss it. Then c callers form two groups that take turns:
batches are half as large and cost twice the fixed time. So a slot is held while

    (w + k) * r  <  k * (a + b * w)

    w          items that wait
    k          callers that should still return: the learned share of those answered, less those
               that are back; at most the places that the call has left
    r          mean seconds from now until the last is back; below 0 once that time has passed
    a + b * w  seconds of a call of the items that wait (`runner.batching.latency_model`)

On the left is the time that all of them lose by the wait, on the right what the k callers would
lose behind a call that left without them. This is the control limit of a queue with batch service
and a fixed cost per batch (Deb and Serfozo, "Optimal control of batch service queues", Advances in
Applied Probability 5, 1973), with the arrivals of a closed loop.

Only arrivals in excess of those before the answers count as returns, and there is no wait unless
half of the callers return, so a steady stream of requests is not held. The seconds that returns
need are estimated as TCP estimates its round trips (Jacobson, "Congestion avoidance and control",
SIGCOMM 1988): r follows their mean, and a wait ends after the mean plus four mean deviations, after
half the time of the last call, or where a deadline would be missed.
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
    """The properties of an item that decisions use."""

    @property
    def deadline(self) -> float:
        """When its answer is due, on the dispatcher's clock, in seconds."""

    @property
    def size_bytes(self) -> int:
        """Its share of the request body."""


C = TypeVar("C", bound=Batchable)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Bounds of one call; a single item may exceed the bytes and the seconds."""

    max_items: int
    max_bulk: int  # items in a call with bulk items
    max_bytes: int
    max_call_s: float  # expected seconds
    latency: CallLatency  # of calls of this key
    now: float  # when the call starts

    def finish(self, n: int) -> float:
        """When a call of ``n`` items is expected to end."""
        return self.now + self.latency.seconds(n)


@dataclass(frozen=True, slots=True)
class BatchPlan(Generic[C]):
    """Items to ``send`` now, and ``lost`` items, which cannot be answered in time any more."""

    send: list[C]
    lost: list[C]


def plan_batch(main: Sequence[C], fill: Iterable[C], limits: BatchLimits) -> BatchPlan[C]:
    """The next call, given the waiting items of one key, each class in order of arrival.

    Sends the largest batch of main items that all finish in time, then fill in order while places,
    bytes and the tightest deadline allow. An item that is passed over is lost: the call holds the
    slot until after the item's deadline. Of main items at least one is sent or lost.
    """
    places = capacity_of(limits)
    plan: BatchPlan[C] = BatchPlan([], [])
    used_bytes = _take_main(plan, main, places, limits)
    _take_fill(plan, fill, places, used_bytes, limits)
    return plan


def capacity_of(limits: BatchLimits) -> int:
    """How many items fit into a call within its item and time limits, at least 1."""
    return fitting(limits.latency, limits.max_items, limits.max_call_s)


def fitting(latency: CallLatency, max_items: int, max_call_s: float) -> int:
    """The most items, at least 1, of a call that is expected to take ``max_call_s`` or less."""
    return max(1, bisect_right(range(1, max_items + 1), max_call_s, key=latency.seconds))


def _take_main(plan: BatchPlan[C], main: Sequence[C], places: int, limits: BatchLimits) -> int:
    n = _most_in_time(main, places, limits)
    finish = limits.finish(n)
    used_bytes = 0
    for item in main:
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


def _most_in_time(main: Sequence[C], places: int, limits: BatchLimits) -> int:
    """The size of the largest call whose items are all in time (1 when there is none).

    To shrink the call for its oldest item would make calls small just when the load is highest.
    """
    n = min(len(main), places)
    finish = limits.finish(n)
    if all(item.deadline >= finish for item in main[:n]):
        return n
    latest = nlargest(n, (item.deadline for item in main))
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


COMPANY_S = 0.3  # after an interactive item: a caller behind short calls returns within 0.2 s
LONGEST_FACTOR = 1.25  # the limit of a call is at least this multiple of a call of one item
PROMPT_FACTOR = 1.5  # the same of a call that is kept short: shorter ones would only be more calls
BULK_GROWTH = 4.0  # a call holds at most so many times the bulk items that recent calls held
OVERLOAD_S = 1.0  # for this long after its last sign overload is expected to last
OVERLOAD_RATE = 1.2  # arrivals for each item that can be served; with fewer the queue grows slowly
# A call of 128 series takes a real tollama 0.16 to 0.5 s. The longer this is, the later a stream is
# noticed: with 0.45 one of 1.4 times what short calls serve was not noticed at all, and had a p95
# of 0.44 s. With 0.35 it has 0.25 s, and one of 1.2 times 0.33 s, as with 0.3.
LOOP_CALL_S = 0.35
SLICE_S = 0.25  # arrivals are counted in slices of time; a burst fills one, overload several


class ArrivalRate:
    """The rate of arrivals that lasted over two slices of time."""

    def __init__(self) -> None:
        self._slice = 0
        self._counts = (0, 0, 0)  # of the slice before the last, the last one, and this one

    def add(self, now: float) -> None:
        """An item has arrived."""
        number = int(now / SLICE_S)
        kept = self._counts[number - self._slice :]
        first, second, this = *kept, *(0,) * (3 - len(kept))
        self._slice, self._counts = number, (first, second, this + 1)

    def lasting(self) -> float:
        """Items a second: the lower rate of the last two complete slices."""
        return min(self._counts[:2]) / SLICE_S


class AdmissionControl:
    """Limits and admission of one model queue."""

    def __init__(self, settings: BatchingSection) -> None:
        self._settings = settings
        self._free_at = 0.0
        self._company_until = 0.0
        self._overloaded_until = 0.0
        self._arrivals = ArrivalRate()
        # times of recent refusals, at most as many as the queue can hold
        self._turned_away: deque[float] = deque(maxlen=settings.max_queued_items)

    def began(self, expected_s: float, now: float) -> None:
        """A call was sent and should take ``expected_s``."""
        self._free_at = now + expected_s

    def longest_call_s(self, latency: CallLatency) -> float:
        """The limit on the expected seconds of a call."""
        return max(self._settings.max_call_s, LONGEST_FACTOR * latency.seconds(1))

    def expects_interactive(self, now: float) -> bool:
        """Whether an interactive item is likely to arrive soon."""
        return now < self._company_until

    def most_bulk(self, latency: CallLatency, max_items: int) -> int:
        """How many items a call with bulk items may hold while interactive ones wait or arrive.

        The number grows from call to call: after small calls it is not known what a large one
        takes, and it could hold the runtime for a second.
        """
        known = min(max_items, int(BULK_GROWTH * latency.centre_n))
        return fitting(latency, known, self._prompt_s(latency))

    def on_interactive_arrival(self, now: float) -> None:
        """An interactive item has arrived."""
        self._company_until = now + COMPANY_S
        self._arrivals.add(now)

    def admits(self, ahead: int, running: int, limits: BatchLimits, returning: float) -> bool:
        """Whether one more item may wait behind ``ahead`` interactive items.

        Calls have ``running`` items. ``limits`` are of a call now; of the answered callers the
        share ``returning`` returns.
        """
        now = limits.now
        if self._is_too_fast(ahead + running, limits, returning):
            self._overloaded_until = now + OVERLOAD_S
        if self.is_overloaded(now):
            admitted = ahead < self._prompt_places(limits)
        else:
            admitted = self._wait_s(ahead, limits) <= self._settings.max_wait_s
        if admitted:
            return True
        self._overloaded_until = now + OVERLOAD_S
        self._turned_away.append(now)
        return False

    def turned_away(self, now: float) -> int:
        """Number of refused items that would still wait if none had been refused."""
        gone = self._turned_away
        while gone and now - gone[0] >= self._settings.max_wait_s:
            gone.popleft()
        return len(gone)

    def is_overloaded(self, now: float) -> bool:
        """Whether few interactive items may wait, and bulk items wait for all of them."""
        return now < self._overloaded_until

    def _prompt_s(self, latency: CallLatency) -> float:
        prompt_s = max(self._settings.prompt_call_s, PROMPT_FACTOR * latency.seconds(1))
        return min(prompt_s, self.longest_call_s(latency))

    def _places(self, limits: BatchLimits, call_s: float) -> int:
        """Items in calls of ``call_s``, one in each slot."""
        return fitting(limits.latency, limits.max_items, call_s) * self._settings.slots_per_model

    def _prompt_places(self, limits: BatchLimits) -> int:
        return self._places(limits, self._prompt_s(limits.latency))

    def _is_too_fast(self, unanswered: int, limits: BatchLimits, returning: float) -> bool:
        """Whether items arrive faster than short calls serve them, and are too many for a loop."""
        if unanswered < self._places(limits, LOOP_CALL_S):
            return False
        rate, slots = (1.0 - returning) * self._arrivals.lasting(), self._settings.slots_per_model
        places = self._prompt_places(limits)
        return rate * limits.latency.seconds(places // slots) > OVERLOAD_RATE * places

    def _wait_s(self, ahead: int, limits: BatchLimits) -> float:
        """Seconds to the end of the item's call; 0 for an item of the next call, however long."""
        places = self._places(limits, limits.max_call_s)
        if ahead < places:
            return 0.0
        calls_s = (1 + ahead // places) * limits.latency.seconds(capacity_of(limits))
        return max(0.0, self._free_at - limits.now) + calls_s


_GAIN = 0.25  # weight of the latest call: changes are known after four
_SURE_SHARE = 0.5  # below this, arrivals by chance could be taken for returns
_DEVIATIONS = 4.0


class ReturningCallers:
    """Whether a free slot waits for the callers that were just answered.

    Learns from the arrivals at one model queue how many callers return, and how soon.

    Arrivals are counted after the end of a call, for half of its duration. As many as came in its
    second half would have come by chance; the rest are returns.
    """

    def __init__(self) -> None:
        self._sum_answered = 0.0  # sums over the last calls, which fade
        self._sum_returned = 0.0
        self._mean_s: float | None = None
        self._deviation_s = 0.0
        self._halfway = inf
        self._arrived = 0  # since halfway through the call that runs
        self._answered = 0  # by the call that ended last, at ``_ended_at``
        self._ended_at = 0.0
        self._window_s = 0.0
        self._by_chance = 0.0  # arrivals in the window that are no returns
        self._back = 0
        self._last_back_s = 0.0

    @property
    def share(self) -> float:
        """Share of the callers answered by the last calls that returned, 0 to 1."""
        return max(0.0, self._sum_returned / self._sum_answered) if self._sum_answered else 0.0

    def on_arrival(self, now: float) -> None:
        """An interactive item has arrived."""
        self._arrived += now >= self._halfway
        if now - self._ended_at <= self._window_s:
            self._back += 1
            self._last_back_s = now - self._ended_at

    def on_call(self, now: float, expected_s: float) -> None:
        """A call has left that should take ``expected_s``."""
        self._halfway = now + expected_s / 2
        self._arrived = 0

    def on_answers(self, now: float, answered: int, took_s: float) -> None:
        """A call of ``answered`` interactive items has ended after ``took_s``."""
        self._learn(now)
        self._answered, self._ended_at, self._window_s = answered, now, took_s / 2
        counted_s = now - self._halfway
        self._by_chance = self._arrived * self._window_s / counted_s if counted_s > 0 else 0.0
        self._back, self._last_back_s = 0, 0.0

    def hold_until(self, now: float, waiting: int, places: int, call_s: float) -> float:
        """Until when a free slot should wait; ``now`` when it should not.

        Args:
            now: on the clock of the other methods.
            waiting: items that a call would take now, >= 1.
            places: further items that the call could take.
            call_s: seconds that a call of the waiting items takes.
        """
        share = self.share
        expected = min(self._answered * share - self._back, places)
        if expected <= 0 or share < _SURE_SHARE or self._mean_s is None:
            return now
        back_s = min(self._mean_s + _DEVIATIONS * self._deviation_s, self._window_s)
        rest_s = self._ended_at + back_s - now
        mean_s = min(self._ended_at + self._mean_s - now, rest_s)
        pays = (waiting + expected) * mean_s < expected * call_s
        return now + rest_s if rest_s > 0 and pays else now

    def _learn(self, now: float) -> None:
        """Takes the arrivals since the last answers into account."""
        if not self._answered:
            return
        seen = min(1.0, (now - self._ended_at) / self._window_s) if self._window_s else 0.0
        returned = self._back - self._by_chance * seen  # below 0 too, else chance adds up
        self._sum_answered += self._answered - _GAIN * self._sum_answered
        self._sum_returned += min(returned, self._answered) - _GAIN * self._sum_returned
        if returned > 0.5:
            self._learn_time(self._last_back_s)

    def _learn_time(self, back_s: float) -> None:
        if self._mean_s is None:
            self._mean_s = back_s
        error_s = back_s - self._mean_s
        self._mean_s += _GAIN * error_s
        self._deviation_s += _GAIN * (abs(error_s) - self._deviation_s)
