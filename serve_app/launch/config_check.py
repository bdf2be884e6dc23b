"""Checks configuration files, for the launcher, ``tsfm check-config`` and CI.

    kind            recognised by            checked with
    --------------  -----------------------  -----------------------------------------------------
    configuration   ``request``, ``slo``     runner.config.loading, and the model registry it names
    models          ``models``               runner.config.registry
    Serve config    ``applications``         Serve's own schema, closed; and the files it names
    RayService      ``kind: RayService``     the Serve config inside it, likewise

A Serve config is checked more strictly than by Serve: unknown keys, which Serve ignores, are
refused. A configuration is checked with the settings in an application's ``env_vars``, as it will
run. Paths in a manifest are paths on the machine it will run on: files missing here are skipped.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from pydantic import ValidationError as ModelValidationError
from ray.serve.schema import ServeDeploySchema

from runner.config.loading import (
    ENV_PREFIX,
    complaints,
    load_config,
    parse_documents,
    read_documents,
    read_yaml,
)
from runner.config.registry import load_registry
from runner.errors import ConfigError


def read_serve_config(path: Path) -> dict[str, Any]:
    """The values of a Serve config, after `check_serve_config`.

    Raises:
        ConfigError: it names the file and every key that is unknown or wrong.
    """
    values = read_yaml(path)
    check_serve_config(values, str(path))
    return values


def check_serve_config(values: Mapping[str, Any], place: str) -> None:
    """Refuses a Serve config with keys or values that Serve would ignore or refuse.

    Raises:
        ConfigError: it names ``place`` and every key that is unknown or wrong.
    """
    validator = Draft202012Validator(_closed(ServeDeploySchema.model_json_schema()))
    errors = (leaf for error in validator.iter_errors(values) for leaf in _unknown(error))
    found = sorted({_key(error) for error in errors})
    if found:
        raise ConfigError(f"{place}: Serve knows no such key: {', '.join(found)}")
    try:
        ServeDeploySchema.model_validate(values)
    except ModelValidationError as exc:
        raise ConfigError(f"{place}: {complaints(exc)}") from exc
    except (ImportError, AttributeError) as exc:  # Serve imports the autoscaling policy
        raise ConfigError(f"{place}: policy_function: {exc}") from exc
    for at, application in enumerate(values["applications"]):
        for name, value in variables_of(application).items():
            if not isinstance(value, str):  # Ray refuses it only when replicas are started
                raise ConfigError(
                    f"{place}: applications.{at}.runtime_env.env_vars.{name}: "
                    "must be text; put it in quotes"
                )


def variables_of(application: Mapping[str, Any]) -> Mapping[str, Any]:
    """The environment variables of an application in a Serve config."""
    return (application.get("runtime_env") or {}).get("env_vars") or {}


def _closed(schema: Any) -> Any:
    """The schema, with unknown keys refused in every object."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {k: _closed(v) for k, v in schema.items()}
    if isinstance(schema.get("properties"), dict):
        closed["additionalProperties"] = False
    choices = closed.get("anyOf", ())
    if any("$ref" in choice for choice in choices):  # "this model, or any dict" checks nothing
        closed["anyOf"] = [choice for choice in choices if choice.get("type") != "object"]
    return closed


def _unknown(error: ValidationError) -> Iterator[ValidationError]:
    """The errors about unknown keys inside an error, through the branches of anyOf."""
    if error.validator == "additionalProperties":
        yield error
    for child in error.context or ():
        yield from _unknown(child)


def _key(error: ValidationError) -> str:
    known: Any = error.schema
    present: Any = error.instance
    names = sorted(set(present) - set(known["properties"]))
    at = ".".join(str(part) for part in error.absolute_path)
    return ", ".join(f"{at}.{name}" if at else name for name in names)


_UNKNOWN = (
    "is neither a configuration of this service, nor a model registry, a Serve config or a "
    "RayService manifest"
)


@dataclass(frozen=True, slots=True)
class Sound:
    """A valid file and its kind."""

    file: Path
    kind: str


def check_file(file: Path) -> Iterator[Sound]:
    """Yields the valid files: this one, and those it names.

    Raises:
        ConfigError: it names the file and the path of the wrong value.
    """
    documents = read_documents(file)
    manifests = [d for d in documents if isinstance(d, dict) and d.get("kind") == "RayService"]
    if manifests:
        yield from _manifests(file, manifests)
    elif len(documents) == 1 and isinstance(documents[0], dict):
        yield from _single(file, documents[0])
    else:
        raise ConfigError(f"{file}: {_UNKNOWN}")


def _single(file: Path, values: Mapping[str, Any]) -> Iterator[Sound]:
    if "applications" in values:
        yield from _serve_config(file, str(file), values, must_exist=True)
    elif "models" in values:
        load_registry(file)
        yield Sound(file, "model registry")
    elif "request" in values or "slo" in values:
        yield from _configuration(file)
    else:
        raise ConfigError(f"{file}: {_UNKNOWN}")


def _configuration(file: Path) -> Iterator[Sound]:
    models_file = load_config(file).models_file
    load_registry(models_file)
    yield Sound(file, "configuration")


def _manifests(file: Path, manifests: list[dict[str, Any]]) -> Iterator[Sound]:
    for manifest in manifests:
        place = f"{file}: spec.serveConfigV2"
        text = (manifest.get("spec") or {}).get("serveConfigV2")
        if not isinstance(text, str):
            raise ConfigError(f"{place}: must hold a Serve config as text")
        match parse_documents(text, place):
            case [dict() as values]:
                yield from _serve_config(file, place, values, must_exist=False)
            case _:
                raise ConfigError(f"{place}: must hold a Serve config as text")


def _serve_config(
    file: Path, place: str, values: Mapping[str, Any], *, must_exist: bool
) -> Iterator[Sound]:
    check_serve_config(values, place)
    yield Sound(file, "Serve config" if must_exist else "RayService manifest")
    for application in values["applications"]:
        name = (application.get("args") or {}).get("config")
        if name and (must_exist or Path(name).is_file()):
            yield from _as_it_will_run(Path(name), place, variables_of(application))


def _as_it_will_run(file: Path, place: str, variables: Mapping[str, str]) -> list[Sound]:
    """Checks a configuration with the environment variables of its application."""
    ours = sorted(name for name in variables if name.startswith(ENV_PREFIX))
    try:
        with _set(variables):
            return list(_configuration(file))
    except ConfigError as exc:
        if not ours:
            raise
        raise ConfigError(f"{exc} (with {', '.join(ours)} of {place})") from exc


@contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets our settings of ``variables`` in the environment, as in a replica; restores it after."""
    ours = {name: value for name, value in variables.items() if name.startswith(ENV_PREFIX)}
    before = {name: os.environ[name] for name in ours if name in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]
        os.environ.update(before)
