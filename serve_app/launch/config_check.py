"""Checks configuration files, for the launcher, ``tsfm check-config`` and CI.

    kind            recognised by            checked with
    --------------  -----------------------  -----------------------------------------------------
    configuration   ``request``, ``slo``     runner.config.loading, and the model registry it names
    models          ``models``               runner.config.registry
    Serve config    ``applications``         Serve's own schema, and the files it names
    RayService      ``kind: RayService``     the Serve config inside it, likewise

A Serve config is checked more strictly than by Serve: unknown keys, which Serve ignores, are
refused. A configuration is checked with the settings in an application's ``env_vars``, as it will
run. Paths in a manifest are paths on the machine it will run on: files missing here are skipped.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ray.serve.config import AutoscalingConfig, GangSchedulingConfig, RequestRouterConfig
from ray.serve.schema import ServeDeploySchema

from runner.config.loading import (
    ENV_PREFIX,
    complaints,
    load_config,
    parse_documents,
    read_documents,
    read_yaml,
)
from runner.config.registry import load_registry, registry_of
from runner.errors import ConfigError

# Fields of a deployment that Serve declares as "this model, or any dict".
_LOOSE: Mapping[str, type[BaseModel]] = {
    "autoscaling_config": AutoscalingConfig,
    "gang_scheduling_config": GangSchedulingConfig,
    "request_router_config": RequestRouterConfig,
}


def read_serve_config(path: Path) -> dict[str, Any]:
    """The values of a Serve config, after `check_serve_config`."""
    values = read_yaml(path)
    check_serve_config(values, str(path))
    return values


def check_serve_config(values: Mapping[str, Any], place: str) -> None:
    """Refuses a Serve config with keys or values that Serve would ignore or refuse.

    Raises:
        ConfigError: it names ``place`` and every key that is unknown or wrong.
    """
    _check_model(ServeDeploySchema, values, f"{place}: ")
    for at, application in enumerate(values["applications"]):
        for number, deployment in enumerate(application.get("deployments", ())):
            for name, model in _LOOSE.items():
                if isinstance(part := deployment.get(name), dict):
                    where = f"{place}: applications.{at}.deployments.{number}.{name}."
                    _check_model(model, part, where)
        for name, value in _variables(application).items():
            if not isinstance(value, str):  # Ray refuses it only when replicas are started
                raise ConfigError(
                    f"{place}: applications.{at}.runtime_env.env_vars.{name}: "
                    "must be text; put it in quotes"
                )


def _check_model(model: type[BaseModel], values: Mapping[str, Any], prefix: str) -> None:
    try:
        model.model_validate(values, extra="forbid")
    except ValidationError as exc:
        raise ConfigError(f"{prefix}{complaints(exc)}") from exc
    except (ImportError, AttributeError) as exc:  # Serve imports the autoscaling policy
        raise ConfigError(f"{prefix}policy_function: {exc}") from exc


def _variables(application: Mapping[str, Any]) -> Mapping[str, Any]:
    return (application.get("runtime_env") or {}).get("env_vars") or {}


Valid = tuple[Path, str]  # a file and its kind


def check_file(file: Path) -> Iterator[Valid]:
    """Yields the valid files with their kinds: this one, and those it names.

    Raises:
        ConfigError: it names the file and the path of the wrong value.
    """
    documents = read_documents(file)
    manifests = [d for d in documents if isinstance(d, dict) and d.get("kind") == "RayService"]
    match documents:
        case _ if manifests:
            for manifest in manifests:
                yield from _manifest(file, manifest)
        case [{"applications": _} as values]:
            check_serve_config(values, str(file))
            yield file, "Serve config"
            yield from _configurations(values, str(file), must_exist=True)
        case [{"models": _}]:
            load_registry(file)
            yield file, "model registry"
        case [{"request": _} | {"slo": _}]:
            yield _configuration(file)
        case _:
            raise ConfigError(
                f"{file}: is neither a configuration of this service, nor a model registry, "
                "a Serve config or a RayService manifest"
            )


def _configuration(file: Path) -> Valid:
    registry_of(load_config(file))
    return file, "configuration"


def _manifest(file: Path, manifest: Mapping[str, Any]) -> Iterator[Valid]:
    place = f"{file}: spec.serveConfigV2"
    text = (manifest.get("spec") or {}).get("serveConfigV2")
    documents = parse_documents(text, place) if isinstance(text, str) else []
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise ConfigError(f"{place}: must hold a Serve config as text")
    check_serve_config(documents[0], place)
    yield file, "RayService manifest"
    yield from _configurations(documents[0], place, must_exist=False)


def _configurations(values: Mapping[str, Any], place: str, *, must_exist: bool) -> Iterator[Valid]:
    """Checks the configurations that a Serve config names, as its applications will read them."""
    for application in values["applications"]:
        name = (application.get("args") or {}).get("config")
        if not name or not (must_exist or Path(name).is_file()):
            continue
        variables = _variables(application)
        ours = {n: value for n, value in variables.items() if n.startswith(ENV_PREFIX)}
        try:
            with _environment(ours):
                valid = _configuration(Path(name))
        except ConfigError as exc:
            where = f" (with {', '.join(sorted(ours))} of {place})" if ours else ""
            raise ConfigError(f"{exc}{where}") from exc
        yield valid


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets variables in this process, and restores its environment afterwards."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
