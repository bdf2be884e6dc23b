"""What the HTTP surface stands on: handed over as one, so that it runs bare in tests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from opentelemetry.trace import Tracer

from runner.calibration.coverage import CoverageReport
from runner.calibration.forecast_record import Actual, OutcomeCounts
from runner.config.loading import Config
from runner.config.registry import Registry
from runner.forecast.answers import AnswerStore
from runner.forecast.bulk import BulkForecaster
from runner.forecast.forecaster import Forecaster
from runner.pacer import Pacer
from runner.types import BreakerCommand, BreakerState
from serve_app.telemetry.request_metrics import RequestMetrics


class OperatorPort(Protocol):
    """Passes an operator's commands on to the breakers."""

    async def command(self, model: str, command: BreakerCommand) -> BreakerState:
        """The state that a command leads to; raises BreakerUnreachableError."""
        ...


class LearningPort(Protocol):
    """What answers are learned from, as far as the HTTP surface sees it."""

    @property
    def report(self) -> CoverageReport:
        """What became of forecasts lately, at all replicas."""
        ...

    @property
    def dropped_notes(self) -> int:
        """Answers of this replica that were never learned from."""
        ...

    @property
    def exchanges(self) -> Mapping[str, int]:
        """How many exchanges with the actor ended in which way."""
        ...

    async def outcomes(self, sent: Sequence[Actual]) -> OutcomeCounts:
        """Scores actuals; raises OutcomesUnavailableError."""
        ...


@dataclass(slots=True)
class UnderWay:
    """Requests that this replica is working on; a batch is one."""

    single: int = 0
    batches: int = 0

    @property
    def total(self) -> int:
        """What the limits of overload are held against."""
        return self.single + self.batches


@dataclass(frozen=True, slots=True)
class Dependencies:
    """One ingress replica's objects; ``clock`` is monotonic, in seconds."""

    config: Config
    registry: Registry
    answers: AnswerStore
    forecaster: Forecaster
    bulk: BulkForecaster
    clock: Callable[[], float]
    watch: RequestMetrics
    operator: OperatorPort
    under_way: UnderWay
    pacer: Pacer  # of all batches
    tracer: Tracer | None = None  # None: nobody wants spans
    learning: LearningPort | None = None  # None where `conformal.online` is switched off
