"""Which part of a batch to send next, and what became of each series.

tollama refuses a whole call for one bad series. It often says which one; then that one is taken out
and the rest is sent again. When it does not say, the part is halved, largest parts first, so that
most of the good series have their forecast early. The search is bounded: a fault of the request as
a whole would otherwise cost two calls per series.
"""

from collections import deque
from collections.abc import Sequence
from copy import copy

from runner.errors import ModelError, RuntimeRejectedError, RuntimeTooLargeError
from runner.types import FloatArray

Outcome = FloatArray | ModelError


class BatchSplit:
    """The search through one batch; ends when every series has an outcome.

    Attributes:
        started: whether the runtime has answered any part; before that, a failure is the batch's.
    """

    def __init__(self, rendered: Sequence[bytes | RuntimeRejectedError]) -> None:
        self._rendered = rendered
        self._outcomes: dict[int, Outcome] = {
            i: item for i, item in enumerate(rendered) if isinstance(item, ModelError)
        }
        sendable = [i for i in range(len(rendered)) if i not in self._outcomes]
        self._parts = deque([sendable] if sendable else [])
        self._refusals_left = _refusal_limit(len(sendable))
        self.started = False

    @property
    def outcomes(self) -> list[Outcome]:
        """What each series got, in the order of the batch; complete when no part is left."""
        return [self._outcomes[i] for i in range(len(self._rendered))]

    def next_part(self) -> list[int] | None:
        """The indexes to send next, or None when the search is over."""
        return self._parts[0] if self._parts else None

    def rendered(self, part: Sequence[int]) -> list[bytes]:
        """The series of ``part`` as they travel."""
        return [item for i in part if isinstance(item := self._rendered[i], bytes)]

    def answered(self, outcomes: Sequence[Outcome]) -> None:
        """The runtime answered the current part: one outcome for each of its series."""
        self._settle(self._parts.popleft(), outcomes)

    def refused(self, accused: frozenset[int] | None) -> None:
        """The runtime refused the current part; ``accused`` are positions in it, if it said."""
        part = self._parts.popleft()
        self._refusals_left -= 1
        if accused is None and len(part) > 1:
            self._halve(part)
        else:
            bad = accused or {0}
            self._reject([i for p, i in enumerate(part) if p in bad])
            rest = [i for p, i in enumerate(part) if p not in bad]
            self._parts.extend([rest] if rest else [])
        self.started = True
        if self._refusals_left <= 0:
            self.fail_rest(RuntimeRejectedError("refused together with others"))

    def too_large(self) -> None:
        """The current part is over a size limit, ours or the runtime's."""
        part = self._parts.popleft()
        if len(part) > 1:
            self._halve(part)
        else:
            self._settle(part, [RuntimeTooLargeError("one series alone is over the size limit")])

    def fail_rest(self, error: ModelError) -> None:
        """Everything that has no outcome yet gets ``error``, each series a copy of its own.

        An object that several callers raise would collect the tracebacks of all of them.
        """
        while self._parts:
            part = self._parts.popleft()
            self._settle(part, [copy(error) for _ in part])

    def _reject(self, indexes: Sequence[int]) -> None:
        self._settle(indexes, [RuntimeRejectedError("the runtime refused it") for _ in indexes])

    def _settle(self, part: Sequence[int], outcomes: Sequence[Outcome]) -> None:
        self.started = True
        for index, outcome in zip(part, outcomes, strict=True):
            self._outcomes[index] = outcome

    def _halve(self, part: list[int]) -> None:
        middle = len(part) // 2
        self._parts.extend((part[:middle], part[middle:]))


def _refusal_limit(count: int) -> int:
    """How many refusals a search may cost: enough to corner any three bad series.

    >>> [_refusal_limit(n) for n in (1, 2, 64, 128)]
    [1, 4, 19, 22]
    """
    return 1 + 3 * max(0, count - 1).bit_length()
