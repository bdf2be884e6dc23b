"""The use case: the model where it suits and answers in time, else what is next best.

Read `Forecaster.forecast` as the product's own paragraph: gate, cache, breaker, model, and then
stale answer, baseline service, baseline in this process. Every way out but the first has a reason.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from runner.cache import AnswerCache, Entry
from runner.config import Config
from runner.errors import BaselineUnavailableError, TooLateError
from runner.fallback import BaselineRequest, baseline_bands
from runner.models import Registry
from runner.plan import Plan, make_plan
from runner.single_flight import SingleFlight
from runner.types import (
    Bands,
    BreakerState,
    FallbackReason,
    ForecastRequest,
    ModelAnswer,
    ModelFailure,
    ModelRequest,
    Priority,
    Source,
)

Outcome = ModelAnswer | ModelFailure


class ModelPort(Protocol):
    """The way to the model; failures come back as values, never as exceptions."""

    async def forecast(self, request: ModelRequest) -> Outcome:
        """One item's bands, or why there are none."""
        ...


class BaselinePort(Protocol):
    """The way to the baseline service."""

    async def forecast(self, request: BaselineRequest) -> Bands:
        """One item's bands; raises BaselineUnavailableError."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """What a caller gets: bands, and the truth about where they come from.

    ``model`` is the call behind the bands (also when they were cached), None for the baseline.
    """

    plan: Plan
    bands: Bands
    source: Source
    breaker_state: BreakerState
    warnings: tuple[str, ...]
    fallback_reason: FallbackReason | None = None
    model: ModelAnswer | None = None
    cache_stale: bool = False
    cache_age_s: float | None = None  # None: not from the cache
    kept: Entry[ModelAnswer] | None = None  # the fresh cache entry an equal request will get


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was last heard of a model's breaker; ``until`` it is known to be open."""

    state: BreakerState = BreakerState.CLOSED
    until: float = 0.0


class Forecaster:
    """Answers requests; one per ingress replica. ``clock`` is monotonic, in seconds."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        model: ModelPort,
        baseline: BaselinePort,
        clock: Callable[[], float],
        spread: Callable[[], float],
    ) -> None:
        self._config = config
        self._registry = registry
        self._model = model
        self._baseline = baseline
        self._clock = clock
        self._cache: AnswerCache[ModelAnswer] = AnswerCache(config.cache, spread)
        self._flights: SingleFlight[Outcome] = SingleFlight()
        self._seen: dict[str, _Seen] = {}

    async def forecast(self, request: ForecastRequest, deadline: float) -> Forecast:
        """A valid answer by ``deadline`` (on the clock), whatever the model does.

        Raises:
            RequestError: the model is unknown, or not allowed in this environment.
        """
        plan = make_plan(request, self._registry, self._config)
        if plan.unsuited is not None:
            return await self._from_baseline(plan, plan.unsuited, deadline)
        entry = self._cache.fresh(plan.cache_key, self._clock())
        if entry is not None:
            return self._from_cache(plan, entry)
        outcome = await self._ask_model(plan, deadline)
        if isinstance(outcome, ModelAnswer):
            return self._from_model(plan, outcome)
        return await self._instead(plan, outcome.reason, deadline)

    def breaker_states(self) -> dict[str, BreakerState]:
        """The states of all breakers heard of here, by runtime name."""
        return {model: seen.state for model, seen in self._seen.items()}

    def breaker_state(self, model: str) -> BreakerState:
        """The state of a model's breaker as last heard of here."""
        return self._seen.get(model, _Seen()).state

    async def _ask_model(self, plan: Plan, deadline: float) -> Outcome:
        """The model's answer within the time, joining whoever asks the same already."""
        while True:
            now = self._clock()
            seen = self._seen.get(plan.key.model, _Seen())
            if now < seen.until:
                return ModelFailure(FallbackReason.BREAKER_OPEN, seen.state, seen.until - now)
            budget_s = deadline - self._config.fallback.reserve_ms / 1e3 - now
            if budget_s <= 0:
                return ModelFailure(FallbackReason.DEADLINE_EXCEEDED, seen.state)
            joins = self._flights.running(plan.cache_key)
            outcome = await self._fly(plan, budget_s)
            if not (joins and _ran_out_of_time(outcome)):
                return outcome  # else: the one we joined had less time than we have; ask again

    async def _fly(self, plan: Plan, budget_s: float) -> Outcome:
        try:
            return await self._flights.join(
                plan.cache_key, lambda: self._call_model(plan, budget_s), budget_s
            )
        except TooLateError:
            state = self.breaker_state(plan.key.model)
            return ModelFailure(FallbackReason.DEADLINE_EXCEEDED, state)

    async def _call_model(self, plan: Plan, budget_s: float) -> Outcome:
        outcome = await self._model.forecast(plan.for_model(budget_s, Priority.INTERACTIVE))
        now = self._clock()
        if isinstance(outcome, ModelAnswer):
            self._cache.put(plan.cache_key, outcome, now - (outcome.age_s or 0.0))
            self._seen[plan.key.model] = _Seen(outcome.breaker_state)
        else:
            memory_s = self._config.circuit_breaker.ingress_memory_s
            known_open_s = min(outcome.retry_in_s, memory_s)
            self._seen[plan.key.model] = _Seen(outcome.breaker_state, now + known_open_s)
        return outcome

    def _from_model(self, plan: Plan, answer: ModelAnswer) -> Forecast:
        return Forecast(
            plan=plan,
            bands=answer.bands,
            source=Source.MODEL,
            breaker_state=answer.breaker_state,
            warnings=(*plan.warnings, *answer.bands.corrections),
            model=answer,
            cache_age_s=answer.age_s,
            kept=self._cache.fresh(plan.cache_key, self._clock()),
        )

    def _from_cache(self, plan: Plan, entry: Entry[ModelAnswer]) -> Forecast:
        return replace(
            self._from_model(plan, entry.value),
            breaker_state=self.breaker_state(plan.key.model),
            cache_age_s=self._clock() - entry.stored_at,
        )

    async def _instead(self, plan: Plan, reason: FallbackReason, deadline: float) -> Forecast:
        """What is next best when the model has none: an old answer of it, else the baseline."""
        entry = self._cache.stale(plan.cache_key, self._clock())
        if entry is None:
            return await self._from_baseline(plan, reason, deadline)
        cached = self._from_cache(plan, entry)
        return replace(
            cached,
            cache_stale=True,
            fallback_reason=FallbackReason.STALE_IF_ERROR,
            warnings=(*cached.warnings, f"fallback_{reason}"),
        )

    async def _from_baseline(self, plan: Plan, reason: FallbackReason, deadline: float) -> Forecast:
        request = plan.for_baseline()
        bands = await self._ask_baseline(request, deadline)
        warnings = (*plan.warnings, f"fallback_{reason}")
        if bands is None:
            bands = baseline_bands([request], self._config.baseline, self._config.bands)[0]
            warnings = (*warnings, "baseline_in_process")
        return Forecast(
            plan=plan,
            bands=bands,
            source=Source.BASELINE,
            breaker_state=self.breaker_state(plan.key.model),
            warnings=(*warnings, *bands.corrections),
            fallback_reason=reason,
        )

    async def _ask_baseline(self, request: BaselineRequest, deadline: float) -> Bands | None:
        """The baseline service's answer, or None when it has none in time."""
        fallback = self._config.fallback
        kept_back_s = (fallback.reserve_ms - fallback.baseline_timeout_ms) / 1e3
        limit_s = min(fallback.baseline_timeout_ms / 1e3, deadline - self._clock() - kept_back_s)
        if limit_s <= 0:
            return None
        try:
            return await asyncio.wait_for(self._baseline.forecast(request), limit_s)
        except (TimeoutError, BaselineUnavailableError):
            return None


def _ran_out_of_time(outcome: Outcome) -> bool:
    return isinstance(outcome, ModelFailure) and outcome.reason is FallbackReason.DEADLINE_EXCEEDED
