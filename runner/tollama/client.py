"""The adapter to tollama: one call for many series, and a ``ModelError`` for each kind of failure.

``wire`` has the JSON, ``http`` the connection and the statuses. This module adds retries, time
limits, and the splitting of a refused batch (`BatchSplit`).

tollama refuses a whole call for one bad series. Often its answer names the series; then that one is
removed and the rest is sent again. Otherwise the part is halved, largest parts first, so that most
of the good series get their forecast early. The number of refusals is limited: a fault of the whole
request would otherwise cost two calls per series.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from runner.config.sections import TollamaSection
from runner.errors import (
    BadOutputError,
    ModelError,
    RuntimeOverloadedError,
    RuntimeRejectedError,
    RuntimeTimeoutError,
    RuntimeTooLargeError,
)
from runner.tollama.http import Answer, RuntimeHttp, blamed, is_refused_connection
from runner.tollama.wire import (
    EncodedSeries,
    check_levels,
    decode_forecasts,
    join_request,
    longest_answer,
)
from runner.types import BatchKey, RuntimeForecast, RuntimeUsage

SeriesResult = RuntimeForecast | ModelError


class BatchSplit:
    """The search through one batch; ends when every series has an outcome.

    ``started``: the runtime has answered a part. Before that, a failure is the whole batch's.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._outcomes: dict[int, SeriesResult] = {}
        self._parts = deque([list(range(count))])
        self._refusals_left = _refusal_limit(count)
        self.started = False

    @property
    def outcomes(self) -> list[SeriesResult]:
        """The outcome of each series in batch order; only after the last part."""
        return [self._outcomes[i] for i in range(self._count)]

    def next_part(self) -> list[int] | None:
        """The indexes to send next, or None when the search is over."""
        return self._parts[0] if self._parts else None

    def answered(self, outcomes: Sequence[SeriesResult]) -> None:
        """The runtime answered the current part: one outcome for each of its series."""
        self._settle(self._parts.popleft(), outcomes)

    def refused(self, accused: frozenset[int] | None) -> None:
        """The runtime refused the current part; ``accused`` are the positions it named, if any."""
        part = self._parts.popleft()
        self.started = True
        self._refusals_left -= 1
        if accused is None and len(part) > 1:
            self._halve(part)
        else:
            named = [part[position] for position in sorted(accused or {0})]
            self._settle(named, [RuntimeRejectedError("the runtime refused it") for _ in named])
            if rest := [i for i in part if i not in self._outcomes]:
                self._parts.append(rest)
        if self._refusals_left <= 0:
            self.fail_rest(RuntimeRejectedError("refused together with others"))

    def too_large(self) -> None:
        """The current part exceeds a size limit, this service's or the runtime's."""
        part = self._parts.popleft()
        if len(part) > 1:
            self._halve(part)
        else:
            self._settle(part, [RuntimeTooLargeError("one series alone is over the size limit")])

    def fail_rest(self, error: ModelError) -> None:
        """Sets a copy of ``error``, which callers raise, for every series without an outcome."""
        while self._parts:
            part = self._parts.popleft()
            self._settle(part, [copy(error) for _ in part])

    def _settle(self, part: Sequence[int], outcomes: Sequence[SeriesResult]) -> None:
        self.started = True
        self._outcomes.update(zip(part, outcomes, strict=True))

    def _halve(self, part: list[int]) -> None:
        middle = len(part) // 2
        self._parts.extend((part[:middle], part[middle:]))


def _refusal_limit(count: int) -> int:
    """The largest number of refusals in a search, enough to isolate any three bad series.

    >>> [_refusal_limit(n) for n in (1, 2, 64, 128)]
    [1, 4, 19, 22]
    """
    return 1 + 3 * max(0, count - 1).bit_length()


class RetryBudget:
    """Allows retries only while more than half of the tokens are left (gRPC proposal A6).

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


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """What all parts of a call have in common; times are on the runtime's clock."""

    key: BatchKey
    series: Sequence[EncodedSeries]
    mark: str
    callers_deadline: float


class TollamaRuntime:
    """Forecasts by a tollama daemon; ``clock`` is monotonic. The caller closes ``http``."""

    def __init__(
        self,
        http: RuntimeHttp,
        settings: TollamaSection,
        *,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float],
        on_usage: Callable[[str, RuntimeUsage], None] = lambda model, usage: None,
    ) -> None:
        """``on_usage`` gets what the runtime says of each call, with the model's name."""
        self._http = http
        self._on_usage = on_usage
        self._settings = settings
        self._sleep = sleep
        self._clock = clock
        self._retries = RetryBudget(settings.retry_tokens, settings.retry_token_ratio)
        self._backoff = wait_random_exponential(settings.backoff_base_s, settings.backoff_max_s)

    async def forecast(
        self, key: BatchKey, series: Sequence[EncodedSeries], *, budget_s: float
    ) -> list[SeriesResult]:
        """For each series its forecast, or its own error.

        A further call (a retry, or a part of a refused batch) starts only within
        ``settings.timeout_s``, the time that callers wait. ``budget_s`` limits all calls and waits
        together. It is longer: tollama goes on computing when its client disconnects.

        Raises:
            ModelError: the first call failed as a whole, or may not be made; no result exists.
        """
        check_levels(key.levels)
        until = self._clock() + min(self._settings.timeout_s, budget_s)
        call = _Call(key, series, f"{secrets.token_hex(6)}-", until)
        split = BatchSplit(len(series))
        try:
            async with asyncio.timeout(budget_s):
                await self._send_all(split, call)
        except TimeoutError as exc:
            self._retries.failed()
            _end(split, RuntimeTimeoutError(f"no answer within {budget_s:g} s"), exc)
        except ModelError as exc:
            _end(split, exc, exc.__cause__)
        return split.outcomes

    async def _send_all(self, split: BatchSplit, call: _Call) -> None:
        while part := split.next_part():
            if split.started and self._clock() >= call.callers_deadline:
                split.fail_rest(RuntimeRejectedError("no time was left to send it on its own"))
            else:
                await self._send_part(split, call, part)

    async def _send_part(self, split: BatchSplit, call: _Call, part: list[int]) -> None:
        series = {i: call.series[i] for i in part}
        body = join_request(call.key, series, call.mark)
        if len(body) > self._settings.max_request_bytes:
            split.too_large()
            return
        try:
            longest = longest_answer(call.key, len(part))
            answer = await self._post(body, longest, call.callers_deadline)
        except RuntimeTooLargeError:
            split.too_large()
        else:
            if answer.status == 200:
                outcomes, usage = await _forecasts_in(answer, call, series)
                self._on_usage(call.key.model, usage)
                split.answered(outcomes)
            else:
                split.refused(blamed(answer.body, len(part)))

    async def _post(self, body: bytes, max_bytes: int, callers_deadline: float) -> Answer:
        attempts = AsyncRetrying(
            sleep=self._sleep,
            stop=stop_after_attempt(1 + self._settings.max_retries),
            wait=self._wait_s,
            retry=retry_if_exception(lambda exc: self._is_worth_a_retry(exc, callers_deadline)),
            reraise=True,
        )
        return await attempts(self._attempt, body, max_bytes)

    async def _attempt(self, body: bytes, max_bytes: int) -> Answer:
        """One exchange, 200 or a refusal; its success or failure goes to the retry budget."""
        try:
            limit = min(max_bytes, self._settings.max_response_bytes)
            answer = await self._http.post(body, max_bytes=limit)
        except ModelError as exc:
            if exc.counts:
                self._retries.failed()
            raise
        self._retries.succeeded()
        return answer

    def _is_worth_a_retry(self, exc: BaseException, callers_deadline: float) -> bool:
        if not (is_refused_connection(exc) or isinstance(exc, RuntimeOverloadedError)):
            return False
        return self._retries.allows_retry and self._clock() + _retry_after_s(exc) < callers_deadline

    def _wait_s(self, state: RetryCallState) -> float:
        """Full jitter, but at least the Retry-After of the runtime."""
        exc = state.outcome.exception() if state.outcome else None
        return max(self._backoff(state), _retry_after_s(exc))


async def _forecasts_in(
    answer: Answer, call: _Call, series: Mapping[int, EncodedSeries]
) -> tuple[list[RuntimeForecast | BadOutputError], RuntimeUsage]:
    """The forecast or error of each series of a part; closes the connection after any error."""
    try:
        outcomes, usage = decode_forecasts(answer.body, call.key, series, call.mark)
    except BadOutputError:
        await answer.hang_up()
        raise
    if any(isinstance(outcome, BadOutputError) for outcome in outcomes):
        await answer.hang_up()
    return outcomes, usage


def _retry_after_s(exc: BaseException | None) -> float:
    return exc.retry_after_s if isinstance(exc, ModelError) else 0.0


def _end(split: BatchSplit, error: ModelError, cause: BaseException | None) -> None:
    """Raises while no series has an answer; later the remaining series get the error."""
    if not split.started:
        raise error from cause
    split.fail_rest(error)
