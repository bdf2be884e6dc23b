"""Many requests at once, under one deadline: cached ones from the cache, the rest together.

Equal requests are computed once. What the model must do travels in chunks, each a call to the
Runner, which pools them with everything else that waits there; whatever fails goes to the baseline,
again together. Answers leave as they come, each with the number of its request.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from runner.config.loading import Config
from runner.config.registry import Registry
from runner.errors import RequestError
from runner.forecast.answers import AnswerStore, Forecast, ModelOutcome
from runner.forecast.forecaster import Fallback, ModelPort
from runner.forecast.resolved_request import ResolvedRequest, resolve_request
from runner.pacer import Pacer
from runner.types import (
    BatchKey,
    FallbackReason,
    ForecastRequest,
    ModelAnswer,
    ModelFailure,
    ModelRequest,
    Priority,
)

T = TypeVar("T")
Numbered = tuple[int, Forecast | RequestError]
Equal = Sequence[tuple[int, ResolvedRequest]]  # numbers of requests that must get the same bands
Failed = tuple[int, ResolvedRequest, FallbackReason]
KNOWN_AT_ONCE = 128  # kept answers that leave together
BASELINE_CHUNK = 128  # 2 to 4 ms of the baseline's work
# A part of a batch's time that is kept for its baselines, where its deadline is far off: by then
# other batches may have come to theirs, and single requests have half of the loop.
COMPANY_FRACTION, COMPANY_FACTOR = 0.25, 4.0
MAX_CHUNK_BYTES = 2_000_000  # half of what one call between replicas may carry


class BulkModelPort(Protocol):
    """The way to the model for many; failures come back as values, never as exceptions."""

    async def forecast_many(self, requests: Sequence[ModelRequest]) -> Sequence[ModelOutcome]:
        """Each item's bands, or why there are none, in order."""
        ...


class ModelPorts(ModelPort, BulkModelPort, Protocol):
    """One item at a time, and many at once."""


class BulkForecaster:
    """Answers lists of requests beside a `Forecaster`, from the same kept answers."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        answers: AnswerStore,
        model: BulkModelPort,
        fallback: Fallback,
        clock: Callable[[], float],
        pacer: Pacer,
    ) -> None:
        self._config = config
        self._registry = registry
        self._answers = answers
        self._model = model
        self._fallback = fallback
        self._clock = clock
        self._pacer = pacer

    async def forecast(
        self,
        requests: Iterable[tuple[int, ForecastRequest]],
        deadline: float,
        answering_s: float = 0.0,
    ) -> AsyncIterator[list[Numbered]]:
        """Every request's forecast or refusal with its number, as they come, by ``deadline``.

        ``requests`` is read as it goes: the first full chunk is on its way to the model while the
        rest is still being planned. What is there at the same time comes together.

        Args:
            requests: with their numbers.
            deadline: on the clock.
            answering_s: what it takes to give all of them the baseline, and to write that down.
        """
        due = self._due(deadline, answering_s)
        batch = _Batch(self._config.batching.max_batch_size)
        work: list[asyncio.Future[list[Numbered]]] = []

        def send(chunks: Iterable[list[Equal]]) -> None:
            asked = (self._ask_model(batch, chunk, due) for chunk in chunks)
            work.extend(map(asyncio.ensure_future, asked))

        try:
            known: list[Numbered] = []
            async for number, request in self._pacer.over(requests):
                done = self._plan(batch, number, request)
                if done is not None:
                    known.append((number, done))
                if len(known) == KNOWN_AT_ONCE:
                    yield known
                    known = []
                send(batch.full_chunks())
            send(batch.chunks_left())
            work.append(asyncio.ensure_future(self._fall_back(batch.ineligible_reason, due)))
            yield known
            for finished in asyncio.as_completed(work):
                yield await finished
        finally:  # the caller left: what is not sent yet must not be
            for task in work:
                task.cancel()

    def _due(self, deadline: float, answering_s: float) -> "_Due":
        """When a batch that comes now must have done what."""
        left_s = deadline - self._clock()
        with_company_s = min(COMPANY_FACTOR * answering_s, COMPANY_FRACTION * left_s)
        reserve_s = max(self._config.fallback.reserve_ms / 1e3, answering_s, with_company_s)
        return _Due(deadline, deadline - reserve_s, deadline - answering_s)

    def _plan(
        self, batch: "_Batch", number: int, request: ForecastRequest
    ) -> Forecast | RequestError | None:
        """What can be said at once, else None: then the batch has it."""
        try:
            plan = resolve_request(request, self._registry, self._config)
        except RequestError as refused:
            return refused
        if plan.ineligible_reason is not None:
            batch.ineligible_reason.append((number, plan, plan.ineligible_reason))
            return None
        fresh = self._answers.fresh(plan)
        if fresh is None:
            batch.add(number, plan)
        return fresh

    async def _ask_model(
        self, batch: "_Batch", chunk: Sequence[Equal], due: "_Due"
    ) -> list[Numbered]:
        """Answers for a chunk; each of its entries holds the requests that are equal."""
        await self._pacer.rest()
        outcomes = await self._outcomes([equal[0][1] for equal in chunk], due)
        batch.landed(chunk)
        await self._pacer.rest()
        done: list[Numbered] = []
        failed: list[Failed] = []
        for equal, outcome in zip(chunk, outcomes, strict=True):
            if isinstance(outcome, ModelAnswer):
                done.extend((n, self._answers.from_model(p, outcome)) for n, p in equal)
            else:
                failed.extend((n, p, outcome.reason) for n, p in equal)
        return done + await self._fall_back(failed, due)

    async def _outcomes(
        self, plans: Sequence[ResolvedRequest], due: "_Due"
    ) -> Sequence[ModelOutcome]:
        """What the model makes of plans that share a key, or why it is not asked."""
        known = self._answers.known_open(plans[0])
        if known is not None:
            return [known] * len(plans)
        budget_s = due.model - self._clock()
        state = self._answers.breaker_state(plans[0].key.model)
        late = [ModelFailure(FallbackReason.DEADLINE_EXCEEDED, state)] * len(plans)
        if budget_s <= 0:
            return late
        items = [plan.for_model(budget_s, Priority.BULK) for plan in plans]
        try:
            async with asyncio.timeout(budget_s):
                outcomes = await self._model.forecast_many(items)
        except TimeoutError:
            return late
        for plan, outcome in zip(plans, outcomes, strict=True):
            self._answers.learn(plan, outcome)
        return outcomes

    async def _fall_back(self, failed: Sequence[Failed], due: "_Due") -> list[Numbered]:
        """An old answer of the model where there is one, else the baseline for all the others."""
        done: list[Numbered] = []
        rest: list[Failed] = []
        for number, plan, reason in failed:
            stale = None if plan.ineligible_reason else self._answers.stale(plan, reason)
            if stale is None:
                rest.append((number, plan, reason))
            else:
                done.append((number, stale))
        for part in cut(rest, lambda item: item[1], BASELINE_CHUNK):
            await self._pacer.rest()
            forecasts = await self._baseline([(p, r) for _, p, r in part], due)
            done.extend(zip((n for n, _, _ in part), forecasts, strict=True))
        return done

    async def _baseline(
        self, failed: Sequence[tuple[ResolvedRequest, FallbackReason]], due: "_Due"
    ) -> list[Forecast]:
        """The baseline service is asked while there would be time for all without it."""
        if self._clock() + self._config.fallback.baseline_timeout_ms / 1e3 > due.baseline:
            return self._fallback.in_place(failed)
        return await self._fallback.many(failed, due.deadline)


@dataclass(frozen=True, slots=True)
class _Due:
    """Until when a batch may wait: for the model, and for the baseline service."""

    deadline: float
    model: float
    baseline: float


class _Batch:
    """What a batch asks of the model, pooled by key, and what is not for the model.

    A request that equals an earlier one joins it, waiting or under way.
    """

    def __init__(self, most: int) -> None:
        self.ineligible_reason: list[Failed] = []
        self._most = most
        self._equal: dict[bytes, list[tuple[int, ResolvedRequest]]] = {}
        self._pools: dict[BatchKey, list[Equal]] = {}
        self._full: list[BatchKey] = []

    def add(self, number: int, plan: ResolvedRequest) -> None:
        equal = self._equal.setdefault(plan.cache_key, [])
        equal.append((number, plan))
        if len(equal) == 1:
            pool = self._pools.setdefault(plan.key, [])
            pool.append(equal)
            if len(pool) == self._most:
                self._full.append(plan.key)

    def landed(self, chunk: Sequence[Equal]) -> None:
        """Nobody can join these any more."""
        for equal in chunk:
            del self._equal[equal[0][1].cache_key]

    def full_chunks(self) -> Iterator[list[Equal]]:
        """Those that have become full, once."""
        while self._full:
            yield from self._cut(self._pools.pop(self._full.pop()))

    def chunks_left(self) -> Iterator[list[Equal]]:
        """Entries of one batch key together, so that a chunk fits into one runtime call."""
        for pool in self._pools.values():
            yield from self._cut(pool)

    def _cut(self, pool: Sequence[Equal]) -> Iterator[list[Equal]]:
        return cut(pool, lambda equal: equal[0][1], self._most)


def cut(
    items: Iterable[T], plan_of: Callable[[T], ResolvedRequest], most: int
) -> Iterator[list[T]]:
    """The items in order, in parts of at most ``most`` and `MAX_CHUNK_BYTES` each way."""
    part: list[T] = []
    size = 0
    for item in items:
        added = size_bytes(plan_of(item))
        if part and (len(part) == most or size + added > MAX_CHUNK_BYTES):
            yield part
            part, size = [], 0
        part.append(item)
        size += added
    if part:
        yield part


def size_bytes(plan: ResolvedRequest) -> int:
    """What a plan adds to a call between replicas, the way there and the way back together."""
    there = plan.series.y_prob.nbytes * (1 + len(plan.series.x_past))
    back = 8 * plan.key.horizon_steps * (len(plan.key.levels) + len(plan.request.x_future))
    return there + back
