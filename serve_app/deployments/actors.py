"""The actors: the breakers of all replicas, learning from all replicas' forecasts, and the boards.

Every decision is made in `runner`; this module adds clocks, a file, and Serve's configuration. A
constructor must not be able to fail. Serve starts an actor before any replica of its deployment:
while the constructor raises there are no replicas, and after 20 tries Serve gives up the
deployment. So the first call builds everything; if that fails, only this call fails, and the next
call tries again.
"""

import logging
import os
import pickle
import random
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import ray
from pydantic import BaseModel
from ray.serve.config import DeploymentActorConfig

from runner.baseline.ewma_bands import BaselineRequest, baseline_bands
from runner.breaker.shared import SharedBreakers, SyncReply, SyncRequest
from runner.calibration.coverage import Actual, ForecastRecord, LearningEvent, OutcomeCounts
from runner.calibration.learned_file import digest_of_file, initial_learned, save_learned
from runner.calibration.online_calibrator import OnlineCalibrator
from runner.config.conformal import ConformalSection
from runner.config.loading import Config
from runner.config.sections import (
    BandsSection,
    BaselineSection,
    CircuitBreakerSection,
    RoutingMode,
    RoutingSection,
)
from runner.types import BreakerCommand, BreakerState, FloatArray
from serve_app.http.board_endpoint import MAX_BOARDS
from serve_app.remote.learning_client import LearningReply, Version

logger = logging.getLogger(__name__)
BREAKER = "breaker"
LEARNING = "learning"
BOARDS = "boards"
# How far the priority of learning is below that of answering. A relative step is allowed to every
# user; 10 as an absolute number would be a higher priority than Ray gives (15), for root only.
_NICE_BELOW = 4
_BESIDE = {
    "num_cpus": 0.01,  # with 0 Ray may place it on a head node that should take no work
    "enable_task_events": False,  # Ray's head would keep the last 100,000 calls: 50 MB an hour
}


def breaker_actor(config: Config) -> DeploymentActorConfig:
    """The singleton that holds breaker state, owned by the Runner deployment."""
    return DeploymentActorConfig(
        name=BREAKER,
        actor_class=ray.remote(BreakerActor),
        init_args=(config.circuit_breaker,),  # Serve's status shows them as JSON: no clocks
        actor_options=_BESIDE,
    )


def learning_actor(config: Config, sources: Collection[str]) -> DeploymentActorConfig:
    """The singleton that learns for all replicas, owned by the Ingress deployment."""
    return DeploymentActorConfig(
        name=LEARNING,
        actor_class=ray.remote(LearningActor),
        init_args=(_learning_settings(config), sorted(sources)),  # likewise JSON in status
        actor_options=_BESIDE,
    )


def _learning_settings(config: Config) -> str:
    """What the learning actor needs of the configuration, as JSON."""
    return config.model_dump_json(include={"conformal", "routing", "baseline", "bands"})


def board_actor() -> DeploymentActorConfig:
    """The singleton that keeps the boards, owned by the Ingress deployment."""
    return DeploymentActorConfig(
        name=BOARDS, actor_class=ray.remote(BoardActor), actor_options=_BESIDE
    )


class BreakerActor:
    """The breakers of all replicas; their state is lost with the actor.

    ``settings`` hold for every breaker; Serve converts a pydantic model to a dict on the way here.
    """

    def __init__(self, settings: CircuitBreakerSection | Mapping[str, Any]) -> None:
        self._settings = settings
        self._built: SharedBreakers | None = None

    async def sync(self, request: SyncRequest) -> SyncReply:
        """See `SharedBreakers.sync`."""
        return self._shared().sync(request)

    async def command(self, names: Sequence[str], command: BreakerCommand) -> BreakerState:
        """See `SharedBreakers.command`."""
        return self._shared().command(names, command)

    def _shared(self) -> SharedBreakers:
        if self._built is None:
            settings = CircuitBreakerSection.model_validate(self._settings)
            life = uuid.uuid4().hex
            self._built = SharedBreakers(settings, time.monotonic, random.random, life)
        return self._built


class LearningSettings(BaseModel):
    """The sections of the configuration that learning needs."""

    conformal: ConformalSection
    routing: RoutingSection
    baseline: BaselineSection
    bands: BandsSection

    def bands_of(self, records: Sequence[ForecastRecord]) -> list[FloatArray]:
        """The bands that the baseline would have answered, ``(H, Q)`` for each record."""
        requests = [
            BaselineRequest(one.observed_prob, len(one.bands.y_prob), one.levels, one.transform)
            for one in records
        ]
        return [bands.y_prob for bands in baseline_bands(requests, self.baseline, self.bands)]


class LearningActor:
    """Learns for all replicas, and saves the learned state in a file.

    ``settings`` are the sections of `LearningSettings` as JSON; ``clock`` gives monotonic seconds.
    """

    def __init__(
        self, settings: str, sources: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings_json = settings
        self._sources = sources
        self._clock = clock
        self._built: OnlineCalibrator | None = None

    async def exchange(self, records: bytes, known: Version | None) -> LearningReply:
        """Takes pickled forecast records of a replica with this version; returns the new state."""
        learner = self._learner()
        learner.learn(pickle.loads(records))  # trusted: from our own replicas, by Ray
        self._save_when_due(learner)
        version = (self._life, learner.changes)
        learned = None if version == known else learner.learned
        return LearningReply(version, learned, learner.report())

    async def outcomes(self, sent: Sequence[Actual]) -> OutcomeCounts:
        """Scores actual values sent to the outcomes endpoint."""
        return self._learner().outcomes(sent)

    def _learner(self) -> OnlineCalibrator:
        if self._built is None:
            whole = LearningSettings.model_validate_json(self._settings_json)
            self._settings = settings = whole.conformal
            self._began_from = digest_of_file(settings.state_file)
            learned = initial_learned(settings, self._sources, self._began_from)
            self._life = time.time_ns()  # each instance needs a higher number than the last
            self._saved_changes, self._save_fails = 0, False
            self._save_at = self._clock() + settings.save_interval_s
            baseline = None if whole.routing.mode is RoutingMode.OFF else whole.bands_of
            self._built = OnlineCalibrator(settings, learned, baseline)
            os.nice(_NICE_BELOW)  # once: a build that failed is tried again
        return self._built

    def _save_when_due(self, learner: OnlineCalibrator) -> None:
        changes, file = learner.changes, self._settings.learned_file
        if file is None or changes == self._saved_changes or self._clock() < self._save_at:
            return
        self._save_at = self._clock() + self._settings.save_interval_s
        try:
            save_learned(file, learner.learned, self._began_from)
        except (OSError, ValueError) as exc:  # ValueError: an impossible path
            learner.count(LearningEvent.FAILED_SAVES)
            if not self._save_fails:
                logger.warning("%s: the learned state cannot be saved (%s)", file, exc)
            self._save_fails = True
        else:
            self._saved_changes, self._save_fails = changes, False


class BoardActor:
    """The newest board of each watch, as JSON; lost with the actor, until the next cycle."""

    def __init__(self) -> None:
        self._boards: dict[str, bytes] = {}  # the newest last
        self._life, self._number = uuid.uuid4().hex, 0

    async def put(self, watch: str, board: bytes) -> None:
        """Keeps a board in place of the one before; the oldest of too many goes."""
        self._boards.pop(watch, None)
        self._boards[watch] = board
        for oldest in [*self._boards][:-MAX_BOARDS]:
            del self._boards[oldest]
        self._number += 1

    async def newest(self, known: str) -> tuple[str, list[bytes]] | None:
        """The version and all boards, the newest first; None if that is the known version."""
        version = f"{self._life}-{self._number}"
        return None if version == known else (version, [*self._boards.values()][::-1])
