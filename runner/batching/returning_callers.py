"""Whether a free slot should wait a moment for the callers that were just answered.

A caller that sends one request after the other returns shortly after its answer. If the next call
leaves with the first of them, the others miss it. Then c callers form two groups that take turns:
batches are half as large and cost twice the fixed time. So a slot is held while

    (w + k) * r  <  k * (a + b * w)

    w          items that wait
    k          callers that should still return: the learned share of those answered, less those
               that are back
    r          seconds until they should all be back
    a + b * w  seconds of a call of the items that wait (`runner.batching.latency_model`)

On the left is the time that all of them lose by the wait, on the right what the k callers would
lose behind a call that left without them. This is the control limit of a queue with batch service
and a fixed cost per batch (Deb and Serfozo, "Optimal control of batch service queues", Advances in
Applied Probability 5, 1973), with the arrivals of a closed loop.

**What is learned.** Only arrivals in excess of those before the answers count as returns, so a
steady stream of requests is never held. The seconds that returns need are estimated as TCP
estimates its round trips (Jacobson, "Congestion avoidance and control", SIGCOMM 1988): r is the
mean, and a wait ends after the mean plus four mean deviations.
"""

from math import inf

_GAIN = 0.25  # weight of the latest call: changes are known after four
_SURE_SHARE = 0.5  # below this, arrivals by chance could be taken for returns
_DEVIATIONS = 4.0


class ReturningCallers:
    """Learns from the arrivals at one model queue how many callers return, and how soon.

    The arrivals in the first half of a call's time after its end are compared with those in the
    second half of the call.
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
        return self._sum_returned / self._sum_answered if self._sum_answered else 0.0

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
        returned = max(0.0, self._back - self._by_chance * seen)
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
