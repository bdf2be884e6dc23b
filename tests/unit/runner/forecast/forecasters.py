"""A forecaster with fakes around it, for tests of single requests and of batches."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from itertools import count
from typing import Any

from runner.errors import RequestError
from runner.forecast.answers import AnswerStore, Forecast
from runner.forecast.forecaster import Fallback, Forecaster, OutcomesReady
from runner.forecast.resolved_request import ResolvedRequest, resolve_request
from runner.pacer import SLICE_S, Pacer
from runner.types import (
    BreakerState,
    FallbackReason,
    ForecastRequest,
    ModelFailure,
    ModelRequest,
)
from tests.support.builders import make_config, make_registry, make_request, walk
from tests.support.fakes import FakeBaselinePort, FakeClock, FakeModelPort

REGISTRY = make_registry()
READINGS_PER_SLICE = 32  # of the pacer's clock


class FakeModel(FakeModelPort):
    """Keeps also the calls for many."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Sequence[ModelRequest]] = []

    async def forecast_many(
        self, requests: Sequence[ModelRequest]
    ) -> AsyncGenerator[OutcomesReady]:
        self.calls.append(requests)
        async for ready in super().forecast_many(requests):
            yield ready


class Bench:
    """A forecaster; ``outcome`` is what its model answers."""

    def __init__(self, outcome: Any = None, **sections: Any) -> None:
        self.clock = FakeClock()
        self.model = FakeModel()
        if outcome is not None:
            self.model.outcome = outcome
        self.baseline = FakeBaselinePort()
        config = make_config(**sections)
        self.answers = AnswerStore(config, self.clock, lambda: 0.0)
        self.fallback = Fallback(config, self.answers, self.baseline, self.clock)
        readings = count()
        pacer = Pacer(lambda: next(readings) * SLICE_S / READINGS_PER_SLICE)
        shared = (config, REGISTRY, self.answers, self.model, self.baseline, self.clock)
        self.forecaster = Forecaster(*shared, pacer)

    async def ask(self, budget_s: float = 1.5, *, shed: bool = False, **changes: Any) -> Forecast:
        deadline = self.clock.now + budget_s
        return await self.forecaster.forecast(make_request(**changes), deadline, shed=shed)

    async def ask_many(
        self, *changes: dict[str, Any], budget_s: float = 5.0, answering_s: float = 0.0
    ) -> list[Any]:
        requests = list(enumerate(make_request(**change) for change in changes))
        deadline = self.clock.now + budget_s
        parts = self.forecaster.forecast_many(each(requests), deadline, lambda: answering_s)
        answers: dict[int, Forecast | RequestError] = {}
        async for part in parts:
            answers.update(part)
        return [answers[number] for number in range(len(requests))]


async def each(requests: Iterable[tuple[int, ForecastRequest]]) -> AsyncIterator[Any]:
    for request in requests:
        yield request


def failure(reason: FallbackReason, retry_in_s: float = 0.0) -> ModelFailure:
    state = BreakerState.OPEN if retry_in_s else BreakerState.CLOSED
    return ModelFailure(reason, state, retry_in_s)


def resolved(**changes: Any) -> ResolvedRequest:
    return resolve_request(make_request(**changes), REGISTRY, make_config())


def markets(number: int) -> list[dict[str, Any]]:
    return [{"y_prob": walk(40, seed)} for seed in range(number)]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
