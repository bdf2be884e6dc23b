"""Answers one request or many: by the model where it suits and is in time, else by a fallback.

Both take the same decisions in the same order: the eligibility rules, the answer cache, the
breaker, the model, an expired answer, the Baseline deployment, the baseline in this process. Every
answer except a fresh model answer carries a `FallbackReason`.

Equal requests share one model call. A single request that reaches its deadline stops waiting, but
its call goes on and fills the cache (`SingleFlight`). Many requests travel in chunks, each of which
fits into one runtime call (`BatchPools`).
"""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Coroutine,
    Hashable,
    Iterable,
    Sequence,
)
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import ceil, inf
from typing import Generic, Protocol, TypeVar

from runner.baseline.ewma_bands import BaselineRequest, baseline_bands
from runner.config.loading import Config
from runner.config.registry import Registry
from runner.errors import BaselineUnavailableError, RequestError, TooLateError
from runner.forecast.answers import IN_PROCESS, AnswerStore, Forecast, ModelOutcome
from runner.forecast.batch_pools import BatchPools, EqualRequests, Failed, split
from runner.forecast.resolved_request import ResolvedRequest, resolve_request
from runner.pacer import Pacer
from runner.types import (
    Bands,
    FallbackReason,
    ForecastRequest,
    ModelAnswer,
    ModelFailure,
    ModelRequest,
    Priority,
)

V = TypeVar("V")
Numbered = tuple[int, Forecast | RequestError]
OutcomesReady = Sequence[tuple[int, ModelOutcome]]  # each with the index of its request
CACHED_AT_ONCE = 128  # cached answers of a batch that are sent together
SEND_S = 0.001  # after a chunk was sent: the event loop is free for it, before it reads on
BASELINE_CHUNK = 128  # 2 to 4 ms of the baseline's work
BASELINE_AT_ONCE = 256  # items that cost the baseline service little more than one does
# The part of a batch's time that is reserved for its baselines where its deadline is far off: other
# batches may need the baseline at the same time, and single requests get half of the loop.
RESERVE_FRACTION, RESERVE_FACTOR = 0.25, 4.0


class ModelPort(Protocol):
    """Calls the model; failures come back as values, never as exceptions."""

    async def forecast(self, request: ModelRequest) -> ModelOutcome:
        """One item's bands, or why there are none."""
        ...

    def forecast_many(self, requests: Sequence[ModelRequest]) -> AsyncGenerator[OutcomesReady]:
        """Each item's bands, or why there are none, as they become ready."""
        ...


class BaselinePort(Protocol):
    """Calls the baseline service."""

    async def forecast(self, requests: Sequence[BaselineRequest]) -> Sequence[Bands]:
        """Bands of every item, in order; raises BaselineUnavailableError."""
        ...


@dataclass(frozen=True, slots=True)
class _BatchTimes:
    """The deadline, and the latest times on the clock to wait for the model and for the service."""

    deadline: float
    model: float
    baseline_service: float


class Forecaster:
    """Answers requests; one per ingress replica. ``clock`` is monotonic, in seconds."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        answers: AnswerStore,
        model: ModelPort,
        baseline: BaselinePort,
        clock: Callable[[], float],
        pacer: Pacer,
    ) -> None:
        self._config = config
        self._registry = registry
        self._answers = answers
        self._model = model
        self._fallback = Fallback(config, answers, baseline, clock)
        self._clock = clock
        self._pacer = pacer
        self._reserve_s = config.fallback.reserve_ms / 1e3
        self._flights: SingleFlight[ModelOutcome] = SingleFlight()

    async def forecast(
        self, request: ForecastRequest, deadline: float, *, shed: bool = False
    ) -> Forecast:
        """A valid answer by ``deadline`` (on the clock), whatever the model does.

        With ``shed``, under overload, only a cached answer or the baseline in this process.

        Raises:
            RequestError: the model is unknown, or not allowed in this environment.
        """
        resolved = resolve_request(request, self._registry, self._config)
        result = self._without_model(resolved)
        if result is None and shed:
            result = self._use(resolved, self._failure(resolved, FallbackReason.OVERLOADED))
        elif result is None:
            outcome = await self._ask_model(resolved, deadline - self._reserve_s)
            result = self._use(resolved, outcome)
        if isinstance(result, Forecast):
            return result
        return (await self._fallback.many([(resolved, result)], None if shed else deadline))[0]

    async def forecast_many(
        self,
        requests: AsyncIterable[tuple[int, ForecastRequest]],
        deadline: float,
        answering_s: Callable[[], float] = lambda: 0.0,
    ) -> AsyncGenerator[list[Numbered]]:
        """Each request's forecast or error with its number, as they become ready, by ``deadline``.

        Full chunks are sent to the model while the rest is still being read; before that is done,
        only cached answers are given. ``answering_s`` returns the time for all baselines and for
        writing all answers, as far as it is known when it is called.
        """
        begin = self._clock()
        pools = BatchPools(self._config.batching.max_batch_size)
        work: list[asyncio.Future[list[Numbered]]] = []

        def send(chunks: Iterable[list[EqualRequests]]) -> None:
            times = self._batch_times(begin, deadline, answering_s())
            answers = (self._answer_chunk(pools, chunk, times) for chunk in chunks)
            work.extend(map(asyncio.ensure_future, answers))

        try:
            ready: list[Numbered] = []
            async for number, request in requests:
                await self._pacer.rest()
                result = self._pool(pools, number, request)
                if result is not None:
                    ready.append((number, result))
                if len(ready) == CACHED_AT_ONCE:
                    yield ready
                    ready = []
                if full := [*pools.full_chunks()]:
                    send(full)
                    await asyncio.sleep(SEND_S)
            send(pools.chunks_left())
            times = self._batch_times(begin, deadline, answering_s())
            work.append(asyncio.ensure_future(self._fall_back(pools.ineligible, times)))
            yield ready
            for finished in asyncio.as_completed(work):
                yield await finished
        finally:  # the caller left: nothing more is sent
            for task in work:
                task.cancel()

    def _batch_times(self, begin: float, deadline: float, answering_s: float) -> _BatchTimes:
        for_many_s = min(RESERVE_FACTOR * answering_s, RESERVE_FRACTION * (deadline - begin))
        reserve_s = max(self._reserve_s, answering_s, for_many_s)
        service_s = self._config.fallback.baseline_timeout_ms / 1e3
        return _BatchTimes(deadline, deadline - reserve_s, deadline - answering_s - service_s)

    def _pool(
        self, pools: BatchPools, number: int, request: ForecastRequest
    ) -> Forecast | RequestError | None:
        """The answer if it is known at once, else None: the request is then in ``pools``."""
        try:
            resolved = resolve_request(request, self._registry, self._config)
        except RequestError as refused:
            return refused
        result = self._without_model(resolved)
        if isinstance(result, Forecast):
            return result
        if result is None:
            pools.add(number, resolved)
        else:
            pools.ineligible.append((number, (resolved, result)))
        return None

    def _without_model(self, resolved: ResolvedRequest) -> Forecast | FallbackReason | None:
        """A cached answer, or why the model must not be asked, or None: ask the model."""
        return (
            resolved.ineligible_reason
            or self._answers.routed_away(resolved)
            or self._answers.fresh(resolved)
        )

    def _use(self, resolved: ResolvedRequest, outcome: ModelOutcome) -> Forecast | FallbackReason:
        """The model's answer, or an expired one, or why the baseline must answer."""
        if isinstance(outcome, ModelAnswer):
            return self._answers.from_model(resolved, outcome)
        return self._answers.stale(resolved, outcome.reason) or outcome.reason

    def _refusal(self, resolved: ResolvedRequest, budget_s: float) -> ModelFailure | None:
        """Why the model cannot be asked now: its breaker is open, or no time is left."""
        known_open = self._answers.known_open(resolved)
        if known_open is None and budget_s <= 0:
            return self._failure(resolved, FallbackReason.DEADLINE_EXCEEDED)
        return known_open

    def _failure(self, resolved: ResolvedRequest, reason: FallbackReason) -> ModelFailure:
        return ModelFailure(reason, self._answers.breaker_state(resolved.key.model))

    async def _ask_model(self, resolved: ResolvedRequest, until: float) -> ModelOutcome:
        """The model's answer by ``until``; joins a running call of an equal request."""
        while True:
            budget_s = until - self._clock()
            refusal = self._refusal(resolved, budget_s)
            if refusal is not None:
                return refusal
            key, joins = resolved.cache_key, self._flights.running(resolved.cache_key)
            call = partial(self._call_model, resolved, budget_s)
            try:
                outcome = await self._flights.join(key, call, budget_s)
            except TooLateError:
                return self._failure(resolved, FallbackReason.DEADLINE_EXCEEDED)
            reason = None if isinstance(outcome, ModelAnswer) else outcome.reason
            if not (joins and reason is FallbackReason.DEADLINE_EXCEEDED):
                return outcome  # else: the joined call had less time than is left here; ask again

    async def _call_model(self, resolved: ResolvedRequest, budget_s: float) -> ModelOutcome:
        item = resolved.for_model(budget_s, Priority.INTERACTIVE)
        try:
            # without a Runner the platform waits for one for ever; after this no answer can come
            async with asyncio.timeout(budget_s + self._config.tollama.lease_s):
                outcome = await self._model.forecast(item)
        except TimeoutError:
            return self._failure(resolved, FallbackReason.DEADLINE_EXCEEDED)
        self._answers.record(resolved, outcome)
        return outcome

    async def _ask_model_for_many(
        self, chunk: Sequence[ResolvedRequest], until: float
    ) -> Sequence[ModelOutcome]:
        """The model's answers by ``until``, in order, for requests that share a batch key."""
        budget_s = until - self._clock()
        refusal = self._refusal(chunk[0], budget_s)
        if refusal is not None:
            return [refusal] * len(chunk)
        items = [resolved.for_model(budget_s, Priority.BULK) for resolved in chunk]
        outcomes: dict[int, ModelOutcome] = {}
        with suppress(TimeoutError):  # the others are used: a chunk may be several calls
            async with asyncio.timeout(budget_s):
                async for ready in self._model.forecast_many(items):
                    outcomes.update(ready)
        for index, outcome in outcomes.items():
            self._answers.record(chunk[index], outcome)
        late = self._failure(chunk[0], FallbackReason.DEADLINE_EXCEEDED)
        return [outcomes.get(index, late) for index in range(len(chunk))]

    async def _answer_chunk(
        self, pools: BatchPools, chunk: Sequence[EqualRequests], times: _BatchTimes
    ) -> list[Numbered]:
        await self._pacer.rest()
        outcomes = await self._ask_model_for_many([equal[0][1] for equal in chunk], times.model)
        pools.close(chunk)
        await self._pacer.rest()
        done: list[Numbered] = []
        failed: list[tuple[int, Failed]] = []
        for equal, outcome in zip(chunk, outcomes, strict=True):
            for number, resolved in equal:
                await self._pacer.rest()
                result = self._use(resolved, outcome)
                if isinstance(result, Forecast):
                    done.append((number, result))
                else:
                    failed.append((number, (resolved, result)))
        return done + await self._fall_back(failed, times)

    async def _fall_back(
        self, failed: Sequence[tuple[int, Failed]], times: _BatchTimes
    ) -> list[Numbered]:
        """The baseline's answers; the service is asked only if there is time for all without it."""
        done: list[Numbered] = []
        for part in split(failed, lambda item: item[1][0], BASELINE_CHUNK):
            await self._pacer.rest()
            until = times.deadline if self._clock() <= times.baseline_service else None
            forecasts = await self._fallback.many([item for _, item in part], until)
            done.extend(zip((number for number, _ in part), forecasts, strict=True))
        return done


class Fallback:
    """The baseline in time: from the service, or from the same function in this process."""

    def __init__(
        self,
        config: Config,
        answers: AnswerStore,
        baseline: BaselinePort,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._answers = answers
        self._baseline = baseline
        self._clock = clock
        self._rests_until = -inf  # after a failure the service is not asked before this time

    async def many(self, failed: Sequence[Failed], deadline: float | None) -> list[Forecast]:
        """A forecast of the baseline for each request, in order, computed together.

        Without a deadline the service is not asked: they are computed in this process.
        """
        requests = [resolved.for_baseline() for resolved, _ in failed]
        bands = None if deadline is None else await self._ask(requests, deadline)
        warnings = (IN_PROCESS,) if bands is None else ()
        bands = bands or baseline_bands(requests, self._config.baseline, self._config.bands)
        return [
            self._answers.from_baseline(resolved, b, reason, warnings)
            for (resolved, reason), b in zip(failed, bands, strict=True)
        ]

    async def _ask(
        self, requests: Sequence[BaselineRequest], deadline: float
    ) -> Sequence[Bands] | None:
        """The baseline service's answer, or None if it has none in time."""
        fallback = self._config.fallback
        limit_ms = fallback.baseline_timeout_ms * ceil(len(requests) / BASELINE_AT_ONCE)
        reserve_s = max(0.0, fallback.reserve_ms - limit_ms) / 1e3
        limit_s = min(limit_ms / 1e3, deadline - self._clock() - reserve_s)
        if limit_s <= 0 or self._clock() < self._rests_until:
            return None
        try:
            async with asyncio.timeout(limit_s):  # wait_for of Python 3.11 can lose a cancellation
                return await self._baseline.forecast(requests)
        except (TimeoutError, BaselineUnavailableError):
            self._rests_until = self._clock() + fallback.baseline_rest_s
            return None


@dataclass(slots=True)
class _Flight(Generic[V]):
    task: asyncio.Task[V]
    waiting: int = 0
    timed_out: bool = False  # for one of its callers: the late result still fills the cache


class SingleFlight(Generic[V]):
    """Callers of the same key share one running task."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[V]] = {}

    def running(self, key: Hashable) -> bool:
        """Whether a task for ``key`` is running."""
        return key in self._flights

    async def join(
        self, key: Hashable, start: Callable[[], Coroutine[object, object, V]], timeout_s: float
    ) -> V:
        """The result of the task for ``key``, which is started here if none is running.

        A cancelled caller cancels the task only if no other caller waits for it or timed out.

        Raises:
            TooLateError: it took longer than ``timeout_s``; the task goes on.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.ensure_future(start()))
            flight.task.add_done_callback(partial(self._end, key, flight))
        flight.waiting += 1
        try:
            done, _ = await asyncio.wait((flight.task,), timeout=timeout_s)
        except asyncio.CancelledError:
            if flight.waiting == 1 and not flight.timed_out:
                self._flights.pop(key, None)  # the next caller must not join a cancelled task
                flight.task.cancel()
            raise
        finally:
            flight.waiting -= 1
        if not done:
            flight.timed_out = True
            raise TooLateError
        return flight.task.result()

    def _end(self, key: Hashable, flight: _Flight[V], _: asyncio.Task[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.task.cancelled():
            flight.task.exception()  # else asyncio logs an error that no caller waited for
