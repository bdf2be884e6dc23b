"""The application with a learning actor that is of no use, for a Serve config to name."""

import os
from typing import Any

import ray
from ray.serve import Application
from ray.serve.config import DeploymentActorConfig

from serve_app import app
from serve_app.app import AppArgs
from serve_app.deployments.actors import learning_actor
from serve_app.deployments.learning import ClockedLearningActor


class DyingLearningActor(ClockedLearningActor):
    """Takes its process along with the first thing that it is told."""

    async def exchange(self, *_: object) -> Any:
        os._exit(1)


def raising(args: AppArgs) -> Application:
    """Nothing can be built from what its constructor is given."""
    return _with(ClockedLearningActor, ("no JSON", ()), args)


def dying(args: AppArgs) -> Application:
    """Its process dies, and so does the next one."""
    return _with(DyingLearningActor, ("{}", ()), args)


def _with(actor: type, init_args: tuple[object, ...], args: AppArgs) -> Application:
    def broken(*told: Any) -> DeploymentActorConfig:
        sound = learning_actor(*told)
        return DeploymentActorConfig(
            name=sound.name,
            actor_class=ray.remote(actor),
            init_args=init_args,
            actor_options=sound.actor_options,
        )

    vars(app)["learning_actor"] = broken
    return app.build(args)
