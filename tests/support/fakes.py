"""Fakes of the ports, beside nothing else: FakeX stands in for port X."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Self

from ray.exceptions import RayActorError

from runner.baseline.ewma_bands import BaselineRequest
from runner.breaker.state_machine import CallResult, Permit, Verdict
from runner.calibration.coverage import Actual, CoverageReport, OutcomeCounts
from runner.errors import (
    BaselineUnavailableError,
    BoardUnavailableError,
    BreakerOpenError,
    BreakerUnreachableError,
    OutcomesUnavailableError,
)
from runner.forecast.answers import ModelOutcome
from runner.forecast.forecaster import OutcomesReady
from runner.types import Bands, BreakerCommand, BreakerState, ModelRequest
from serve_app.http.status_endpoint import RunnerReport
from tests.support.builders import make_answer, make_bands


class FakeClock:
    """A clock that moves when told."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeModelPort:
    """Answers with what it was given; ``gate`` holds answers back until it is set."""

    def __init__(
        self, outcome: ModelOutcome | Callable[[ModelRequest], ModelOutcome] | None = None
    ) -> None:
        self.outcome = outcome if outcome is not None else make_answer()
        self.requests: list[ModelRequest] = []
        self.cancelled = 0
        self.gate: asyncio.Event | None = None

    async def forecast(self, request: ModelRequest) -> ModelOutcome:
        self.requests.append(request)
        try:
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.outcome(request) if callable(self.outcome) else self.outcome

    async def forecast_many(
        self, requests: Sequence[ModelRequest]
    ) -> AsyncGenerator[OutcomesReady]:
        for index, request in enumerate(requests):
            yield [(index, await self.forecast(request))]


class FakeBreakers:
    """Breakers by name, which keep what is recorded; those in ``waits`` are open for so long."""

    def __init__(self) -> None:
        self.waits: dict[str, float] = {}
        self.recorded: list[tuple[str, Verdict]] = []

    async def acquire(self, name: str) -> Permit:
        if name in self.waits:
            raise BreakerOpenError(self.waits[name])
        return Permit(0)

    def record(self, name: str, permit: Permit, result: CallResult, duration_s: float) -> None:
        self.recorded.append((name, result.verdict))

    def state(self, name: str) -> BreakerState:
        return BreakerState.OPEN if name in self.waits else BreakerState.CLOSED

    def retry_in_s(self, name: str) -> float:
        return self.waits.get(name, 0.0)


class FakeBaselinePort:
    """Answers with fixed bands, fails, or hangs."""

    def __init__(self, *, fails: bool = False, hangs: bool = False) -> None:
        self.fails = fails
        self.hangs = hangs
        self.requests: list[BaselineRequest] = []

    async def forecast(self, requests: Sequence[BaselineRequest]) -> Sequence[Bands]:
        self.requests.extend(requests)
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails:
            raise BaselineUnavailableError
        return [make_bands(r.horizon_steps, len(r.levels)) for r in requests]


class FakeHandle:
    """A deployment handle whose calls follow a script."""

    def __init__(self, *scripts: Any) -> None:
        self.scripts = list(scripts)
        self.groups: list[Any] = []
        self.broadcasts: list[tuple[Any, ...]] = []

    def options(self, **_: Any) -> Self:
        return self

    def remote(self, argument: Any) -> Any:
        self.groups.append(argument)
        return self.scripts.pop(0)(argument)

    def broadcast(self, *arguments: Any) -> Self:
        self.broadcasts.append(arguments)
        return self

    async def results_async(self, **_: Any) -> list[Any]:
        return [RayActorError()]


class FakeBoards:
    """Keeps boards in this process; ``gone``: cannot be reached."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.puts = 0
        self.gone = False
        self.came = asyncio.Event()

    async def put(self, watch: str, board: bytes) -> None:
        if self.gone:
            raise BoardUnavailableError(1.0)
        self.kept[watch] = board
        self.puts += 1
        self.came.set()

    async def newest(self) -> tuple[str, list[bytes]]:
        return str(self.puts), [*self.kept.values()]


class FakeLearning:
    """Takes outcomes, of which the first ``unknown`` are unknown; ``gone``: cannot be reached."""

    def __init__(self) -> None:
        self.report = CoverageReport(0.8)
        self.dropped_notes = 0
        self.exchanges: dict[str, int] = {}
        self.sent: list[Actual] = []
        self.unknown = 0
        self.gone = False

    async def outcomes(self, sent: Sequence[Actual]) -> OutcomeCounts:
        if self.gone:
            raise OutcomesUnavailableError(2.0)
        self.sent += sent
        scored = len(sent) - self.unknown
        return OutcomeCounts(len(sent), scored, self.unknown, scored)


class FakeFleet:
    """Knows nothing of the other replicas until it is told."""

    def __init__(self) -> None:
        self.known_runner: RunnerReport | None = None
        self.known_replicas: dict[str, int] | None = None

    async def runner(self) -> RunnerReport | None:
        return self.known_runner

    async def metrics(self) -> bytes:
        return b"# TYPE tsfm_nodes gauge\n"

    async def replicas(self) -> Mapping[str, int] | None:
        return self.known_replicas


class FakeOperatorPort:
    """Does what a command says, unless the breaker cannot be reached."""

    def __init__(self) -> None:
        self.unreachable = False
        self.commands: list[tuple[str, BreakerCommand]] = []

    async def command(self, model: str, command: BreakerCommand) -> BreakerState:
        if self.unreachable:
            raise BreakerUnreachableError
        self.commands.append((model, command))
        return {
            BreakerCommand.FORCE_OPEN: BreakerState.FORCED_OPEN,
            BreakerCommand.FORCE_CLOSED: BreakerState.FORCED_CLOSED,
            BreakerCommand.RESET: BreakerState.CLOSED,
        }[command]
