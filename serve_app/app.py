"""Wiring only: read the configuration, bind the deployments. The import path of the service.

No ``from __future__ import annotations`` here: Serve would see the builder's annotation as a
string and hand over a bare, unvalidated dict.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from ray.serve import Application, Deployment
from ray.serve.config import DeploymentActorConfig

from runner.calibration.learned_file import fitted_state
from runner.config.loading import load_config
from runner.config.registry import Registry, registry_of, wanted_models
from runner.types import BASELINE_MODEL
from serve_app.deployments.actors import board_actor, breaker_actor, learning_actor
from serve_app.deployments.baseline import Baseline
from serve_app.deployments.ingress import Ingress
from serve_app.deployments.runner import Runner


class AppArgs(BaseModel):
    """What ``args`` in the Serve config may say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: Path


def build(args: AppArgs) -> Application:
    """The application of a configuration file.

    Raises:
        ConfigError: the configuration or the model registry cannot be used.
    """
    config = load_config(args.config)
    registry = registry_of(config)
    conformal = fitted_state(config.conformal, sources_of(registry))
    runner = _deployment(Runner).options(deployment_actors=[breaker_actor(config)])
    beside: list[dict[Any, Any] | DeploymentActorConfig] = [board_actor()]
    if config.conformal.online:
        beside.append(learning_actor(config, sources_of(registry)))
    return (
        _deployment(Ingress)
        .options(deployment_actors=beside)
        .bind(
            config,
            registry,
            runner.bind(config, registry, wanted_models(registry, config)),
            _deployment(Baseline).bind(config),
            conformal,
        )
    )


def sources_of(registry: Registry) -> frozenset[str]:
    """Names of all sources of forecasts, as the conformal state uses them."""
    return frozenset({BASELINE_MODEL, *(e.runtime_name for e in registry.models.values())})


def _deployment(decorated: object) -> Deployment:
    """What the decorator made of a class, which its type does not show."""
    assert isinstance(decorated, Deployment)
    return decorated
