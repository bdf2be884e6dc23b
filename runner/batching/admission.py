"""What a lane does when more comes than it can do; pure, times are arguments on one clock.

While interactive items come, calls are kept short, so that who comes just after one began is still
in time. An item that would neither be in the next call nor in time is turned away: the baseline at
once is worth more than the model too late.

What may be waited for tells a burst from lasting overload, as CoDel does for packets (Nichols and
Jacobson, "Controlling queue delay", ACM Queue 10(5), 2012). A burst drains: it may wait long. A
line that has been long for a while, without a break, only delays everybody: it is kept short until
nobody has had to be turned away for a moment.

Meanwhile bulk items stay in line while others wait: they are shed first, by waiting, and lost where
that lasts until their deadline.
"""

from collections import deque
from math import inf

from runner.batching.batch_policy import BatchLimits, capacity_of
from runner.batching.latency_model import CallLatency
from runner.config.sections import BatchingSection

COMPANY_S = 1.0  # so long after an interactive item others are expected to come
COMPANY_FACTOR = 1.25  # a lone item may take longer than any call should: others come along
BURST_S = 0.3  # a line that was long for so long is no burst
OVERLOAD_S = 1.0  # so long after one was turned away lines are kept short, bulk items held back


class AdmissionControl:
    """What is remembered of one lane."""

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
