"""Serve's configuration of the two actors, each owned by a deployment."""

from collections.abc import Collection

import ray
from ray.serve.config import DeploymentActorConfig

from runner.config.loading import Config
from serve_app.deployments.breaker import BREAKER, BreakerActor
from serve_app.deployments.learning import LEARNING, ClockedLearningActor

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
        actor_class=ray.remote(ClockedLearningActor),
        init_args=(config.conformal.model_dump_json(), sorted(sources)),  # likewise JSON in status
        actor_options=_BESIDE,
    )
