"""One frozen object for every setting.

A file holds what an operator decides. Unknown and duplicate keys are refused. Any setting can be
overridden by ``TSFM_<SECTION>__<KEY>``; secrets come from the environment only.
"""

import os
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from runner.config import sections
from runner.config.conformal import ConformalSection
from runner.config.security import SecuritySection
from runner.errors import ConfigError

ENV_PREFIX = "TSFM_"
_NOT_IN_A_FILE = {  # of the section tollama
    "api_key": f"is a secret; set {ENV_PREFIX}TOLLAMA__API_KEY instead",
    "base_url": "is now a list: write base_urls: [...]",
}


class Config(BaseSettings):
    """The whole configuration of one service."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_parse_none_str="null",
        use_attribute_docstrings=True,
    )

    environment: sections.Environment
    """Where the service runs: decides which models are allowed, and whether tokens are required."""
    models_file: Path
    """The model registry; a relative path starts at the folder that holds `configs/`."""
    request: sections.RequestSection
    transform: sections.TransformSection = sections.TransformSection()
    tollama: sections.TollamaSection
    batching: sections.BatchingSection
    overload: sections.OverloadSection
    fallback: sections.FallbackSection
    baseline: sections.BaselineSection = sections.BaselineSection()
    bands: sections.BandsSection
    routing: sections.RoutingSection = sections.RoutingSection()
    cache: sections.CacheSection
    circuit_breaker: sections.CircuitBreakerSection
    conformal: ConformalSection
    security: SecuritySection
    observability: sections.ObservabilitySection
    slo: sections.SloSection

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.fallback.reserve_ms >= self.request.deadline_ms:
            raise ValueError("fallback.reserve_ms must be under request.deadline_ms")
        if self.circuit_breaker.probe_lease_s < self.tollama.longest_call_s:
            raise ValueError(
                "circuit_breaker.probe_lease_s must not be under the longest call that "
                "tollama.timeout_s, max_retries and backoff_max_s allow: no probe would end in time"
            )
        if self.routing.mode is sections.RoutingMode.ENFORCE and not self.conformal.online:
            raise ValueError("routing.mode enforce needs conformal.online: it measures the skill")
        if self.environment is sections.Environment.PROD and not self.security.require_tokens:
            raise ValueError("security.require_tokens must be true where environment is prod")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment overrides the file; there is no other source."""
        return env_settings, init_settings


def load_config(path: str | Path) -> Config:
    """The configuration in ``path`` with the overrides of the environment.

    Relative paths inside the file are resolved against the folder that holds ``configs/``.

    Raises:
        ConfigError: the file is missing, is not YAML, repeats a key, or a value is out of bounds.
    """
    file = Path(path)
    values = read_yaml(file)
    for key in _NOT_IN_A_FILE.keys() & (values.get("tollama") or {}):
        raise ConfigError(f"{file}: tollama.{key} {_NOT_IN_A_FILE[key]}")
    _check_names_of_overrides()
    try:
        config = Config(**values)
    except ValidationError as exc:
        raise ConfigError(f"{file}: {complaints(exc)}") from exc
    except SettingsError as exc:
        raise ConfigError(_not_json(str(exc))) from exc
    folder, conformal = file.resolve().parent.parent, config.conformal  # absolute paths stay
    paths = {name: getattr(conformal, name) for name in ("state_file", "learned_file")}
    beside = {name: path and folder / path for name, path in paths.items()}
    found = {"models_file": folder / config.models_file}
    return config.model_copy(update=found | {"conformal": conformal.model_copy(update=beside)})


class Origin(StrEnum):
    """The source of a value."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """A setting as it is used; ``value`` as in JSON, without secrets."""

    key: str  # section.name
    value: Any
    origin: Origin


def effective_settings(path: str | Path) -> Iterator[EffectiveSetting]:
    """Every setting of a service with this file and environment, secrets hidden."""
    config, file = load_config(path), read_yaml(Path(path))
    environment = EnvSettingsSource(Config)()
    for name, value in config.model_dump(mode="json").items():
        if not isinstance(value, dict):
            yield EffectiveSetting(name, value, _origin(name, file, environment))
            continue
        given = file.get(name, {}), environment.get(name, {})
        for key, inner in value.items():
            full = f"{name}.{key}"
            yield EffectiveSetting(full, _without_secrets(full, inner), _origin(key, *given))


def _origin(key: str, file: Mapping[str, Any], environment: Mapping[str, Any]) -> Origin:
    """The source of ``key``; ``base_url`` is the short form of ``base_urls`` there."""
    if key in environment or (key == "base_urls" and "base_url" in environment):
        return Origin.ENVIRONMENT
    return Origin.FILE if key in file else Origin.DEFAULT


def _without_secrets(key: str, value: Any) -> Any:
    """The value without its secret parts; pydantic has hidden ``api_key`` already."""
    if key == "security.tokens":
        return f"{len(value)} hidden"
    if key == "observability.traces_endpoint":
        return re.sub(r"//[^/]*@", "//**********@", value).partition("?")[0]
    return value


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file; raises ConfigError also if it is another value."""
    match read_documents(file):
        case [dict() as values]:
            return values
    raise ConfigError(f"{file}: must hold a mapping of sections")


def read_documents(file: Path) -> list[Any]:
    """Every document in a YAML file; raises ConfigError also if it cannot be read."""
    try:
        return parse_documents(file.read_text("utf-8"), str(file))
    except OSError as exc:
        raise ConfigError(f"{file}: cannot be read ({exc.strerror})") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{file}: is not text in UTF-8") from exc


def parse_documents(text: str, place: str) -> list[Any]:
    """Every document in a YAML text, without the empty ones; error messages name it ``place``.

    Raises:
        ConfigError: the text is not YAML, or repeats a key.
    """
    try:
        documents = list(yaml.load_all(text, Loader=_StrictLoader))
    except yaml.YAMLError as exc:
        words = " ".join(str(exc).split()).replace('in "<unicode string>", ', "at ")
        raise ConfigError(f"{place}: {words}") from exc
    return [document for document in documents if document is not None]


class _StrictLoader(yaml.SafeLoader):
    """Refuses equal keys; PyYAML alone would use the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                problem = f"the key {key!r} is repeated"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _check_names_of_overrides() -> None:
    """pydantic-settings ignores variables of unknown sections; a typo would go unnoticed."""
    names = {name.upper() for name in os.environ if "__" in name and name.startswith(ENV_PREFIX)}
    for name in names:
        section = name.removeprefix(ENV_PREFIX).partition("__")[0].lower()
        if section not in Config.model_fields:
            raise ConfigError(f"{name}: there is no section {section!r}")
    short = f"{ENV_PREFIX}TOLLAMA__BASE_URL"
    if {short, f"{short}S"} <= names:
        raise ConfigError(f"{short} and {short}S are both set; unset one of them")


def _not_json(message: str) -> str:
    """pydantic-settings names the section alone."""
    section = next((name for name in Config.model_fields if f'"{name}"' in message), "")
    prefix = f"{ENV_PREFIX}{section}__".upper()
    names = sorted(name for name in map(str.upper, os.environ) if name.startswith(prefix))
    return f"{' or '.join(names)}: is not valid JSON, as a list or an object in a variable must be"


def complaints(exc: ValidationError) -> str:
    """Every error with its key, without the values: they may be secrets.

    pydantic also reports a list whose items are all wrong as too short: that error is left out.
    """
    found = exc.errors(include_url=False, include_context=False, include_input=False)
    for error in found:
        error["loc"] = tuple(part for part in error["loc"] if part != "[key]")
    parents = {e["loc"][:-1] for e in found if e["loc"]} - {()}
    return "; ".join(_complaint(error) for error in found if error["loc"] not in parents)


def _complaint(error: ErrorDetails) -> str:
    key = ".".join(map(str, error["loc"])) or "config"
    return f"{key}: {_words(error['type'], error['msg'])}{_setter(error['loc'])}"


def _setter(loc: Sequence[str | int]) -> str:
    """The variable that sets the key, if one does."""
    given = {name.upper() for name in os.environ}
    names = (f"{ENV_PREFIX}{'__'.join(map(str, loc[:depth]))}".upper() for depth in (1, 2))
    return next((f" (set by {name})" for name in names if name in given), "")


def _words(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "there is no such key; check its spelling"
    if kind == "model_type":
        return "must be a mapping"
    return message.removeprefix("Value error, ")
