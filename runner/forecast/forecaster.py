"""Answers one request: by the model where it suits and is in time, else by the next best source.

`Forecaster.forecast` tries in this order: the eligibility rules, the answer cache, the breaker, the
model, an expired answer, the Baseline deployment, the baseline in this process. Every answer except
a fresh model answer carries a `FallbackReason`.

Equal requests share one model call (`SingleFlight`). A caller that reaches its deadline stops
waiting, but the call goes on: its result fills the cache. A cancelled caller cancels the call only
when no other caller waits for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Generic, Protocol, TypeVar

from runner.baseline.requests import BaselineRequest, baseline_bands
from runner.config.loading import Config
from runner.config.registry import Registry
from runner.errors import BaselineUnavailableError, TooLateError
from runner.forecast.answers import AnswerStore, Forecast, ModelOutcome
from runner.forecast.resolved_request import ResolvedRequest, resolve_request
from runner.types import (
    Bands,
    FallbackReason,
    ForecastRequest,
    ModelAnswer,
    ModelFailure,
    ModelRequest,
    Priority,
)

AT_ONCE = 256  # items that cost the baseline service little more than one does


class ModelPort(Protocol):
    """The way to the model; failures come back as values, never as exceptions."""

    async def forecast(self, request: ModelRequest) -> ModelOutcome:
        """One item's bands, or why there are none."""
        ...


class BaselinePort(Protocol):
    """The way to the baseline service."""

    async def forecast(self, requests: Sequence[BaselineRequest]) -> Sequence[Bands]:
        """Bands of every item, in order; raises BaselineUnavailableError."""
        ...


class Forecaster:
    """Answers requests; one per ingress replica. ``clock`` is monotonic, in seconds."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        answers: AnswerStore,
        model: ModelPort,
        fallback: "Fallback",
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._registry = registry
        self._answers = answers
        self._model = model
        self._clock = clock
        self._fallback = fallback
        self._flights: SingleFlight[ModelOutcome] = SingleFlight()

    async def forecast(
        self, request: ForecastRequest, deadline: float, *, shed: bool = False
    ) -> Forecast:
        """A valid answer by ``deadline`` (on the clock), whatever the model does.

        With ``shed`` there is too much to do: only what is kept here, else the baseline in place.

        Raises:
            RequestError: the model is unknown, or not allowed in this environment.
        """
        plan = resolve_request(request, self._registry, self._config)
        if plan.ineligible_reason is not None and not shed:
            return await self._fallback.one(plan, plan.ineligible_reason, deadline)
        fresh = None if plan.ineligible_reason else self._answers.fresh(plan)
        if fresh is not None:
            return fresh
        if shed:
            return self._shed(plan)
        outcome = await self._ask_model(plan, deadline)
        if isinstance(outcome, ModelAnswer):
            return self._answers.from_model(plan, outcome)
        stale = self._answers.stale(plan, outcome.reason)
        return stale or await self._fallback.one(plan, outcome.reason, deadline)

    def _shed(self, plan: ResolvedRequest) -> Forecast:
        stale = self._answers.stale(plan, FallbackReason.OVERLOADED)
        reason = plan.ineligible_reason or FallbackReason.OVERLOADED
        return stale or self._fallback.in_place([(plan, reason)])[0]

    async def _ask_model(self, plan: ResolvedRequest, deadline: float) -> ModelOutcome:
        """The model's answer within the time, joining whoever asks the same already."""
        while True:
            known = self._answers.known_open(plan)
            if known is not None:
                return known
            reserve_s = self._config.fallback.reserve_ms / 1e3
            budget_s = deadline - reserve_s - self._clock()
            if budget_s <= 0:
                return self._too_late(plan)
            joins = self._flights.running(plan.cache_key)
            outcome = await self._fly(plan, budget_s)
            if not (joins and _ran_out_of_time(outcome)):
                return outcome  # else: the one we joined had less time than we have; ask again

    async def _fly(self, plan: ResolvedRequest, budget_s: float) -> ModelOutcome:
        try:
            return await self._flights.join(
                plan.cache_key, lambda: self._call_model(plan, budget_s), budget_s
            )
        except TooLateError:
            return self._too_late(plan)

    async def _call_model(self, plan: ResolvedRequest, budget_s: float) -> ModelOutcome:
        outcome = await self._model.forecast(plan.for_model(budget_s, Priority.INTERACTIVE))
        self._answers.learn(plan, outcome)
        return outcome

    def _too_late(self, plan: ResolvedRequest) -> ModelFailure:
        state = self._answers.breaker_state(plan.key.model)
        return ModelFailure(FallbackReason.DEADLINE_EXCEEDED, state)


class Fallback:
    """The baseline in time: the service's, or the same function in this process."""

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
        self._rests_until = -inf  # when the service is asked again, after it had no answer

    async def one(self, plan: ResolvedRequest, reason: FallbackReason, deadline: float) -> Forecast:
        """The baseline's forecast for one plan."""
        return (await self.many([(plan, reason)], deadline))[0]

    async def many(
        self, failed: Sequence[tuple[ResolvedRequest, FallbackReason]], deadline: float
    ) -> list[Forecast]:
        """The baseline's forecast for each plan, in order, computed together."""
        bands = await self._ask([plan.for_baseline() for plan, _ in failed], deadline)
        if bands is None:
            return self.in_place(failed)
        return self._forecasts(failed, bands, in_process=False)

    def in_place(self, failed: Sequence[tuple[ResolvedRequest, FallbackReason]]) -> list[Forecast]:
        """The same, computed here and now."""
        requests = [plan.for_baseline() for plan, _ in failed]
        bands = baseline_bands(requests, self._config.baseline, self._config.bands)
        return self._forecasts(failed, bands, in_process=True)

    def _forecasts(
        self,
        failed: Sequence[tuple[ResolvedRequest, FallbackReason]],
        bands: Sequence[Bands],
        *,
        in_process: bool,
    ) -> list[Forecast]:
        return [
            self._answers.from_baseline(plan, b, reason, in_process=in_process)
            for (plan, reason), b in zip(failed, bands, strict=True)
        ]

    async def _ask(
        self, requests: Sequence[BaselineRequest], deadline: float
    ) -> Sequence[Bands] | None:
        """The baseline service's answer, or None when it has none in time."""
        fallback = self._config.fallback
        limit_ms = fallback.baseline_timeout_ms * ceil(len(requests) / AT_ONCE)
        kept_back_s = max(0.0, fallback.reserve_ms - limit_ms) / 1e3
        limit_s = min(limit_ms / 1e3, deadline - self._clock() - kept_back_s)
        if limit_s <= 0 or self._clock() < self._rests_until:
            return None
        try:
            return await asyncio.wait_for(self._baseline.forecast(requests), limit_s)
        except (TimeoutError, BaselineUnavailableError):
            self._rests_until = self._clock() + fallback.baseline_rest_s
            return None


def _ran_out_of_time(outcome: ModelOutcome) -> bool:
    return isinstance(outcome, ModelFailure) and outcome.reason is FallbackReason.DEADLINE_EXCEEDED


V = TypeVar("V")


@dataclass(slots=True)
class _Flight(Generic[V]):
    task: asyncio.Task[V]
    waiting: int = 0
    wanted: bool = False  # somebody timed out: the late result still has a use


class SingleFlight(Generic[V]):
    """Joins callers of the same key onto one running task."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[V]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def running(self, key: Hashable) -> bool:
        """Whether somebody is already at work for ``key``."""
        return key in self._flights

    async def join(self, key: Hashable, start: Callable[[], Awaitable[V]], timeout_s: float) -> V:
        """The result of the work for ``key``, started here if nobody has yet.

        Raises:
            TooLateError: it took longer than ``timeout_s``; the work goes on.
        """
        flight = self._flights.get(key) or self._take_off(key, start)
        flight.waiting += 1
        try:
            done, _ = await asyncio.wait((flight.task,), timeout=timeout_s)
        except asyncio.CancelledError:
            if flight.waiting == 1 and not flight.wanted:
                self._flights.pop(key, None)  # whoever comes next must not join a cancelled task
                flight.task.cancel()
            raise
        finally:
            flight.waiting -= 1
        if not done:
            flight.wanted = True
            raise TooLateError
        return flight.task.result()

    def _take_off(self, key: Hashable, start: Callable[[], Awaitable[V]]) -> _Flight[V]:
        flight = _Flight(asyncio.ensure_future(_run(start)))
        self._flights[key] = flight
        flight.task.add_done_callback(lambda _: self._land(key, flight))
        return flight

    def _land(self, key: Hashable, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.task.cancelled():
            flight.task.exception()  # marks it as seen: with no waiter left nobody else would


async def _run(start: Callable[[], Awaitable[V]]) -> V:
    return await start()
