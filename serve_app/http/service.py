"""Dependencies of the endpoints, as one object."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from opentelemetry.trace import Tracer

from runner.calibration.coverage import Actual, CoverageReport, OutcomeCounts
from runner.config.loading import Config
from runner.config.registry import Registry
from runner.forecast.answers import AnswerStore
from runner.forecast.forecaster import Forecaster
from runner.pacer import Pacer
from runner.types import BreakerCommand, BreakerState
from serve_app.telemetry.request_metrics import RequestMetrics


class OperatorPort(Protocol):
    """Passes an operator's commands on to the breakers."""

    async def command(self, model: str, command: BreakerCommand) -> BreakerState:
        """Applies a command and returns the new state; raises BreakerUnreachableError."""


class BoardPort(Protocol):
    """Keeps the newest board of each watch, for all replicas."""

    async def put(self, watch: str, board: bytes) -> None:
        """Keeps the board of a watch; raises BoardUnavailableError."""

    async def newest(self) -> tuple[str, list[bytes]]:
        """A version that changes with every board, and all boards, the newest first."""


class LearningPort(Protocol):
    """The learning client, as the endpoints use it."""

    @property
    def report(self) -> CoverageReport:
        """Coverage of recent forecasts of all replicas."""

    @property
    def dropped_notes(self) -> int:
        """Number of answers of this replica that were never sent to the learning actor."""

    @property
    def exchanges(self) -> Mapping[str, int]:
        """Number of exchanges with the actor by result."""

    async def outcomes(self, sent: Sequence[Actual]) -> OutcomeCounts:
        """Scores actuals; raises OutcomesUnavailableError."""


@dataclass(slots=True)
class UnderWay:
    """Requests in flight in this replica; a batch counts as one."""

    single: int = 0
    batches: int = 0

    @property
    def total(self) -> int:
        """The number that is compared with the overload limits."""
        return self.single + self.batches


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The objects of one ingress replica; ``clock`` is monotonic, in seconds."""

    config: Config
    registry: Registry
    answers: AnswerStore
    forecaster: Forecaster
    clock: Callable[[], float]
    request_metrics: RequestMetrics
    operator: OperatorPort
    under_way: UnderWay
    pacer: Pacer  # of all batches
    boards: BoardPort
    tracer: Tracer | None = None  # None: tracing is off
    learning: LearningPort | None = None  # None where `conformal.online` is switched off
