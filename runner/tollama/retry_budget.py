"""A budget of tokens, so that retries do not make an outage worse.

Source: gRPC proposal A6, "Throttling Retry Attempts and Hedged RPCs".
"""


class RetryBudget:
    """Allows retries only while more than half of the tokens are left.

    A failure takes one token, a success returns ``ratio`` of one: at most that share of calls is
    retried in steady state, and few in an outage.

    >>> budget = RetryBudget(tokens=4, ratio=0.5)
    >>> budget.failed(); budget.failed(); budget.allows_retry
    False
    >>> budget.succeeded(); budget.allows_retry
    True
    """

    def __init__(self, tokens: float, ratio: float) -> None:
        self._capacity = tokens
        self._ratio = ratio
        self._tokens = tokens

    @property
    def allows_retry(self) -> bool:
        """Whether one more attempt is allowed."""
        return self._tokens > self._capacity / 2

    def failed(self) -> None:
        """Takes a token; never below zero."""
        self._tokens = max(0.0, self._tokens - 1.0)

    def succeeded(self) -> None:
        """Returns ``ratio`` of a token; never over the capacity."""
        self._tokens = min(self._capacity, self._tokens + self._ratio)
