"""The adapter to tollama: one call for many series, and one error of ours for each way it fails.

``wire`` knows the JSON, ``errors`` the statuses, ``http`` the connection. This module adds retries,
the clock, and the splitting of a refused batch (`BatchSplit`).

tollama refuses a whole call for one bad series. It often says which one; then that series is taken
out and the rest is sent again. Where it does not say, the part is halved, largest parts first, so
that most of the good series have their forecast early. The search is bounded: a fault of the whole
request would otherwise cost two calls per series.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from copy import copy

import orjson
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
from runner.tollama.errors import blamed
from runner.tollama.http import Answer, RuntimeHttp, is_refused_connection
from runner.tollama.retry_budget import RetryBudget
from runner.tollama.wire import (
    check_levels,
    decode_forecasts,
    encode_series,
    join_request,
    longest_answer,
)
from runner.types import BatchKey, FloatArray, ModelSeries

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


_LONGEST_LIST = 1_000_000  # bytes of the list of models


class TollamaRuntime:
    """Forecasts by a tollama daemon.

    Args:
        http: the runtime's connections; stay the caller's to close.
        settings: limits and retries.
        sleep: waits between attempts.
        clock: seconds, monotonic.
        new_mark: what the ids of a batch begin with, unlike those of any other batch.
    """

    def __init__(
        self,
        http: RuntimeHttp,
        settings: TollamaSection,
        *,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float],
        new_mark: Callable[[], str] = lambda: f"{secrets.token_hex(6)}-",
    ) -> None:
        self._http = http
        self._settings = settings
        self._sleep = sleep
        self._clock = clock
        self._new_mark = new_mark
        self._retries = RetryBudget(settings.retry_tokens, settings.retry_token_ratio)
        self._backoff = wait_random_exponential(settings.backoff_base_s, settings.backoff_max_s)

    async def forecast(
        self, key: BatchKey, series: Sequence[ModelSeries], *, budget_s: float
    ) -> list[Outcome]:
        """For each series its ``(H, Q)`` paths in model space and the order of ``key.levels``.

        A series that the runtime refuses, or answers badly, gets its own error; its batchmates get
        their forecasts, if need be by further calls.

        Args:
            key: what the batch shares; ``params`` travel as tollama's ``options``.
            series: the batch, in model space.
            budget_s: the hard end of everything done here, calls and waits together. It is meant
                to be the lease of a slot, longer than anybody waits: tollama computes on when its
                client has left, so a caller that has waited enough stops waiting for this task and
                lets it run. A further call, be it a retry or a part of a refused batch, starts
                only within ``settings.timeout_s``, the callers' patience.

        Raises:
            ModelError: the first call failed as a whole, or may not be made; nobody has anything.
        """
        check_levels(key.levels)
        mark = self._new_mark()
        split = BatchSplit(encode_series(series, mark))
        patience_ends = self._clock() + min(self._settings.timeout_s, budget_s)
        try:
            async with asyncio.timeout(budget_s):
                await self._send_all(split, key, mark, patience_ends)
        except TimeoutError as exc:
            self._retries.failed()
            _end(split, RuntimeTimeoutError(f"no answer within {budget_s:g} s"), exc)
        except ModelError as exc:
            _end(split, exc, exc.__cause__)
        return split.outcomes

    async def is_healthy(self, *, timeout_s: float) -> bool:
        """Whether the runtime says that it lives, within ``timeout_s``."""
        try:
            await self._get("v1/health", timeout_s)
        except ModelError:
            return False
        return True

    async def installed_models(self, *, timeout_s: float) -> tuple[str, ...]:
        """The runtime names of the models that the runtime has.

        Raises:
            ModelError: no usable answer within ``timeout_s``.
        """
        body = await self._get("api/tags", timeout_s)
        try:
            return tuple(str(model["name"]) for model in orjson.loads(body)["models"])
        except (ValueError, TypeError, KeyError) as exc:
            raise BadOutputError("the list of models cannot be read") from exc

    async def _send_all(
        self, split: BatchSplit, key: BatchKey, mark: str, patience_ends: float
    ) -> None:
        while part := split.next_part():
            if split.started and self._clock() >= patience_ends:
                split.fail_rest(RuntimeRejectedError("no time was left to send it on its own"))
            else:
                await self._send_part(split, key, mark, part, patience_ends)

    async def _send_part(
        self, split: BatchSplit, key: BatchKey, mark: str, part: list[int], patience_ends: float
    ) -> None:
        body = join_request(key, split.rendered(part))
        if len(body) > self._settings.max_request_bytes:
            split.too_large()
            return
        try:
            answer = await self._post(body, longest_answer(key, len(part)), patience_ends)
        except RuntimeTooLargeError:
            split.too_large()
        else:
            if answer.status == 200:
                split.answered(await _forecasts_in(answer, key, part, mark))
            else:
                split.refused(blamed(answer.body, len(part)))

    async def _post(self, body: bytes, max_bytes: int, patience_ends: float) -> Answer:
        attempts = AsyncRetrying(
            sleep=self._sleep,
            stop=stop_after_attempt(1 + self._settings.max_retries),
            wait=self._wait_s,
            retry=retry_if_exception(lambda exc: self._is_worth_a_retry(exc, patience_ends)),
            reraise=True,
        )
        return await attempts(self._attempt, body, max_bytes)

    async def _attempt(self, body: bytes, max_bytes: int) -> Answer:
        """The answer, 200 or a refusal; the retry budget learns how it went."""
        try:
            answer = await self._exchange("POST", "v1/forecast", body, max_bytes)
        except ModelError as exc:
            if exc.counts:
                self._retries.failed()
            raise
        self._retries.succeeded()
        return answer

    def _is_worth_a_retry(self, exc: BaseException, patience_ends: float) -> bool:
        if not (is_refused_connection(exc) or isinstance(exc, RuntimeOverloadedError)):
            return False
        return self._retries.allows_retry and self._clock() + _wish_s(exc) < patience_ends

    def _wait_s(self, state: RetryCallState) -> float:
        """Full jitter, but no sooner than the runtime asked."""
        exc = state.outcome.exception() if state.outcome else None
        return max(self._backoff(state), _wish_s(exc))

    async def _get(self, path: str, timeout_s: float) -> bytes:
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._exchange("GET", path, None, _LONGEST_LIST)
        except TimeoutError as exc:
            raise RuntimeTimeoutError(f"no answer within {timeout_s:g} s") from exc
        if answer.status != 200:
            raise BadOutputError(f"the runtime refused GET {path}")
        return answer.body

    async def _exchange(
        self, method: str, path: str, content: bytes | None, max_bytes: int
    ) -> Answer:
        limit = min(max_bytes, self._settings.max_response_bytes)
        return await self._http.exchange(method, path, content, max_bytes=limit)


async def _forecasts_in(
    answer: Answer, key: BatchKey, part: list[int], mark: str
) -> list[FloatArray | BadOutputError]:
    """What an answer holds for each series of a part; its connection is kept if all is well."""
    try:
        outcomes = decode_forecasts(answer.body, key, part, mark)
    except BadOutputError:
        await answer.hang_up()
        raise
    if any(isinstance(outcome, BadOutputError) for outcome in outcomes):
        await answer.hang_up()
    return outcomes


def _wish_s(exc: BaseException | None) -> float:
    """How long the runtime asked us to wait, else 0."""
    return (exc.retry_after_s or 0.0) if isinstance(exc, RuntimeOverloadedError) else 0.0


def _end(split: BatchSplit, error: ModelError, cause: BaseException | None) -> None:
    """A failure before the first answer is the batch's; later it is that of the series left."""
    if not split.started:
        raise error from cause
    split.fail_rest(error)
