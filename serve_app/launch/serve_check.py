"""Checks a Serve config more strictly than Serve does, which ignores keys it does not know."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from pydantic import ValidationError as ModelValidationError
from ray.serve.schema import ServeDeploySchema

from runner.config.loading import complaints, read_yaml
from runner.errors import ConfigError


def read_serve_config(path: Path) -> dict[str, Any]:
    """The values of a Serve config that holds nothing Serve would ignore or refuse.

    Raises:
        ConfigError: it names the file and every key that is unknown or wrong.
    """
    values = read_yaml(path)
    check_serve_config(values, str(path))
    return values


def check_serve_config(values: Mapping[str, Any], place: str) -> None:
    """Refuses a Serve config with anything that Serve would ignore or refuse.

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
    except (ImportError, AttributeError) as exc:  # Serve imports what decides about replicas
        raise ConfigError(f"{place}: policy_function: {exc}") from exc
    for at, application in enumerate(values["applications"]):
        for name, value in variables_of(application).items():
            if not isinstance(value, str):  # Ray itself finds out when replicas are started
                raise ConfigError(
                    f"{place}: applications.{at}.runtime_env.env_vars.{name}: "
                    "must be text; put it in quotes"
                )


def variables_of(application: Mapping[str, Any]) -> Mapping[str, Any]:
    """The environment variables that an application of a Serve config asks for."""
    return (application.get("runtime_env") or {}).get("env_vars") or {}


def _closed(schema: Any) -> Any:
    """The schema with every object refusing keys that it does not name."""
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
    """The errors about unknown keys below an error, through the branches of anyOf."""
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
