"""The application with actors that cannot work, for a Serve config to name."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray.serve import Application
from ray.serve.config import DeploymentActorConfig

from serve_app import app
from serve_app.deployments import actors
from serve_app.deployments.actors import BreakerActor, LearningActor, learning_actor
from serve_app.remote.learning_client import LearningReply, Version

BROKEN_WHILE = "TSFM_TEST_BROKEN_WHILE"  # names a file; each breaker constructor adds a byte to it


def is_broken() -> Path | None:
    """The file, as long as it is there."""
    file = Path(os.environ[BROKEN_WHILE])
    return file if file.exists() else None


class BrokenBreakerActor(BreakerActor):
    """Its constructor raises as long as the file is there."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        if file := is_broken():
            with file.open("a") as tries:
                tries.write(".")
            raise RuntimeError("broken")
        super().__init__(settings)


class BrokenLearningActor(LearningActor):
    """Cannot be built from its settings as long as the file is there; later its process ends."""

    async def exchange(self, records: bytes, known: Version | None) -> LearningReply:
        if is_broken():
            return await super().exchange(records, known)
        os._exit(1)


def build(args: app.AppArgs) -> Application:
    def broken(*args: Any) -> DeploymentActorConfig:
        sound = learning_actor(*args)
        return DeploymentActorConfig(
            name=sound.name,
            actor_class=ray.remote(BrokenLearningActor),
            init_args=("no JSON", ()),
            actor_options=sound.actor_options,
        )

    vars(actors)["BreakerActor"] = BrokenBreakerActor
    vars(app)["learning_actor"] = broken
    return app.build(args)
