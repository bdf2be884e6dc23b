"""What the HTTP surface stands on: handed over as one, so that it runs bare in tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runner.answers import Answers
from runner.bulk import BulkForecaster
from runner.config import Config
from runner.forecaster import Forecaster
from runner.models import Registry
from serve_app.schemas_status import CoverageItem
from serve_app.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Service:
    """One ingress replica's objects; ``clock`` is monotonic, in seconds."""

    config: Config
    registry: Registry
    answers: Answers
    forecaster: Forecaster
    bulk: BulkForecaster
    clock: Callable[[], float]
    traffic: Traffic
    coverage: Callable[[], Sequence[CoverageItem]] = tuple  # of recorded outcomes: none so far
