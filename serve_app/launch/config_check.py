"""What kind of configuration a file is, and whether it is sound: for people, CI and manifests.

    kind            known by                 checked with
    --------------  -----------------------  ----------------------------------------------------
    configuration   ``request``, ``slo``     runner.config.loading, and the model registry that it names
    models          ``models``               runner.config.registry
    Serve config    ``applications``         Serve's own schema, closed; and the files it names
    RayService      ``kind: RayService``     the Serve config inside it, likewise

A configuration is checked with the settings among an application's ``env_vars``, as it will run.
A Serve config's paths belong to the machine it will run on: in a manifest, those that are not here
are left alone.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.loading import ENV_PREFIX, load_config, parse_documents, read_documents
from runner.config.registry import load_registry
from runner.errors import ConfigError

_UNKNOWN = (
    "is neither a configuration of this service, nor a model registry, a Serve config or a "
    "RayService manifest"
)


@dataclass(frozen=True, slots=True)
class Sound:
    """A file that can be used, and what it is."""

    file: Path
    kind: str


def check_file(file: Path) -> Iterator[Sound]:
    """What was found to be sound: the file, and those it names.

    Raises:
        ConfigError: it names the file, and what is wrong in it by its path.
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
    from serve_app.launch.serve_check import check_serve_config, variables_of  # loads Ray: a second

    check_serve_config(values, place)
    yield Sound(file, "Serve config" if must_exist else "RayService manifest")
    for application in values["applications"]:
        name = (application.get("args") or {}).get("config")
        if name and (must_exist or Path(name).is_file()):
            yield from _as_it_will_run(Path(name), place, variables_of(application))


def _as_it_will_run(file: Path, place: str, variables: Mapping[str, str]) -> list[Sound]:
    """A configuration with the settings that an application of a Serve config puts over it."""
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
    """Our settings among ``variables`` over those of this shell, as a replica has them."""
    ours = {name: value for name, value in variables.items() if name.startswith(ENV_PREFIX)}
    before = {name: os.environ[name] for name in ours if name in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]
        os.environ.update(before)
