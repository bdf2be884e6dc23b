"""Wiring only: read the configuration, bind the deployments. The import path of the service.

No ``from __future__ import annotations`` here: Serve would see the builder's annotation as a
string and hand over a bare, unvalidated dict.
"""

import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from ray.serve import Application, Deployment

from runner.config import Config, load_config
from runner.conformal_state import ConformalState, load_state
from runner.errors import ConfigError
from runner.models import Registry, load_registry
from runner.types import BASELINE_MODEL
from serve_app.deployments import Baseline, Ingress, Runner, breaker_actor

logger = logging.getLogger(__name__)


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
    registry = load_registry(config.models_file)
    runner = _deployment(Runner).options(deployment_actors=[breaker_actor(config)])
    return _deployment(Ingress).bind(
        config,
        registry,
        runner.bind(config, registry),
        _deployment(Baseline).bind(config),
        load_calibration(config, registry),
    )


def load_calibration(config: Config, registry: Registry) -> ConformalState | None:
    """The configured conformal state; with an unusable one the service runs, and says so."""
    settings = config.conformal
    if settings.state_file is None:
        return None
    sources = {BASELINE_MODEL, *(entry.runtime_name for entry in registry.models.values())}
    try:
        return load_state(settings.state_file, settings.target_coverage, sources)
    except ConfigError as exc:
        logger.warning("answers leave uncalibrated: %s", exc)
        return None


def _deployment(decorated: object) -> Deployment:
    """What the decorator made of a class, which its type does not show."""
    assert isinstance(decorated, Deployment)
    return decorated
