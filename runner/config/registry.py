"""The model registry: names, licences and limits, and what each environment may serve.

Names resolve in this order: the environment's own aliases, then registered names, runtime names
and the models' aliases. Only ``runtime_name`` is sent to the runtime.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, model_validator

from runner.config.loading import complaints, read_yaml
from runner.config.section import Count, Level, Section
from runner.config.sections import Environment
from runner.errors import ConfigError, ModelNotAllowedError, UnknownModelError
from runner.types import ParamValue

Name = Annotated[str, Field(min_length=1, max_length=100)]
Params = tuple[tuple[str, ParamValue], ...]


class LicenseTag(StrEnum):
    """What the weights may be used for."""

    COMMERCIAL_OK = "commercial_ok"
    RESEARCH_ONLY = "research_only"


class NumberRule(Section):
    """A number that a caller may set, inside bounds."""

    not_over: ClassVar = {"min": "max"}

    type: Literal["int", "float"]
    min: float
    max: float

    def accepts(self, value: object) -> bool:
        """Whether ``value`` has the type and is inside the bounds; a boolean is not a number."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.type == "int" and not isinstance(value, int):
            return False
        return self.min <= value <= self.max


class ChoiceRule(Section):
    """A text that a caller may choose from a list."""

    type: Literal["str"]
    choices: Annotated[tuple[str, ...], Field(min_length=1)]

    def accepts(self, value: object) -> bool:
        """Whether ``value`` is one of the choices."""
        return isinstance(value, str) and value in self.choices


ParamRule = Annotated[NumberRule | ChoiceRule, Field(discriminator="type")]


class ModelEntry(Section):
    """One model as registered.

    Attributes:
        name: the key in the file, unique.
        runtime_name: what the runtime calls it.
        aliases: other names a caller may use.
        license: SPDX identifier of the weights' licence.
        version: of the weights, where it is known and fixed; a runtime does not report it.
        max_series_per_call: how many series one runtime call may carry; None is no limit.
        max_context: how many past points the model uses; None is no limit.
        levels: the only quantile levels that it supports; None is any, () is none.
        allowed_params: what a caller may set in ``model.params``; everything else is dropped.
        note: one sentence that helps to choose a model.
    """

    name: Name
    runtime_name: Name
    aliases: tuple[Name, ...]
    license_tag: LicenseTag
    license: Name
    version: Name | None
    max_series_per_call: Count | None
    max_context: Count | None
    levels: tuple[Level, ...] | None
    allowed_params: Mapping[Name, ParamRule]
    note: str | None

    @property
    def names(self) -> frozenset[str]:
        """Every name of the model, aliases of environments excluded."""
        return frozenset((self.name, self.runtime_name, *self.aliases))

    def gives(self, levels: Sequence[float]) -> bool:
        """Whether the model has every one of the levels."""
        return self.levels is None or set(levels) <= set(self.levels)

    def filter_params(self, params: Mapping[str, Any]) -> tuple[Params, tuple[str, ...]]:
        """``(kept, dropped)``: the allowed pairs and the names of the others, both sorted by name.

        A param is dropped when the model does not allow it or its value is out of bounds. Dropped
        names are the caller's own text: show them only to that caller.
        """
        rules = self.allowed_params
        kept = {k: v for k, v in params.items() if k in rules and rules[k].accepts(v)}
        return tuple(sorted(kept.items())), tuple(sorted(params.keys() - kept.keys()))


class EnvironmentRules(Section):
    """What one environment serves; its ``aliases`` override those of the models."""

    allowed_models: tuple[Name, ...]
    aliases: Mapping[Name, Name]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that an environment may serve, with its aliases there."""

    entry: ModelEntry
    aliases: tuple[str, ...]


class Registry(Section):
    """All registered models, and the rules of each environment."""

    models: Mapping[Name, ModelEntry]
    environments: Mapping[Environment, EnvironmentRules]

    @cached_property
    def by_name(self) -> Mapping[str, ModelEntry]:
        """Every entry under each of its own names."""
        return {name: entry for entry in self.models.values() for name in entry.names}

    def resolve(self, name: str, environment: Environment) -> ModelEntry:
        """The model that ``name`` means in ``environment``.

        Raises:
            UnknownModelError: nothing is registered under that name or alias.
            ModelNotAllowedError: registered, but this environment may not serve it.
        """
        rules = self.environments[environment]
        entry = self.by_name.get(rules.aliases.get(name, name))
        if entry is None:
            raise UnknownModelError
        if entry.name not in rules.allowed_models:
            raise ModelNotAllowedError(entry.name, environment.value, _why_not(entry))
        return entry

    def served(self, environment: Environment) -> tuple[ServedModel, ...]:
        """The models of ``environment`` in the file's order, each with its aliases there."""
        rules = self.environments[environment]
        allowed = (e for e in self.models.values() if e.name in rules.allowed_models)
        return tuple(ServedModel(entry, _aliases_in(entry, rules)) for entry in allowed)

    def batch_limit(self, runtime_name: str, most: int) -> int:
        """How many series one call to the model may have: its own limit, but at most ``most``."""
        entry = self.by_name[runtime_name]
        return min(most, entry.max_series_per_call or most)

    @model_validator(mode="before")
    @classmethod
    def _name_entries(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Sets the name of each entry to its key in the file."""
        models = values.get("models")
        if not isinstance(models, dict):
            return values
        named = {k: {**m, "name": k} if isinstance(m, dict) else m for k, m in models.items()}
        return {**values, "models": named}

    @model_validator(mode="after")
    def _check(self) -> Self:
        found = list(_contradictions(self))
        if found:
            raise ValueError("; ".join(found))
        return self


def load_registry(path: str | Path) -> Registry:
    """The registry in ``path``.

    Raises:
        ConfigError: the file cannot be read, a key is missing or unknown, a name means two models,
            an environment names a model that is not registered, or ``prod`` allows a
            ``research_only`` model.
    """
    file = Path(path)
    try:
        return Registry.model_validate(read_yaml(file))
    except ValidationError as exc:
        raise ConfigError(f"{file}: {complaints(exc)}") from exc


def _why_not(entry: ModelEntry) -> str:
    if entry.license_tag is LicenseTag.RESEARCH_ONLY:
        return f"its licence ({entry.license}) is tagged research_only"
    return "it is not among the environment's allowed_models"


def _aliases_in(entry: ModelEntry, rules: EnvironmentRules) -> tuple[str, ...]:
    own = {name for name in entry.names if name not in rules.aliases}
    given = {alias for alias, target in rules.aliases.items() if target == entry.name}
    return tuple(sorted((own | given) - {entry.name}))


def _contradictions(registry: Registry) -> Iterator[str]:
    """Errors across entries, one sentence each."""
    yield from _shared_names(registry)
    for environment in Environment:
        rules = registry.environments.get(environment)
        if rules is None:
            yield f"environments.{environment.value} is missing"
            continue
        yield from _bad_allowed(registry, environment, rules)
        yield from _bad_aliases(registry, environment, rules)


def _shared_names(registry: Registry) -> Iterator[str]:
    owner: dict[str, str] = {}
    for entry in registry.models.values():
        for name in sorted(entry.names):
            if name in owner:
                yield f"the name {name} means two models, {owner[name]} and {entry.name}"
            owner[name] = entry.name


def _bad_allowed(
    registry: Registry, environment: Environment, rules: EnvironmentRules
) -> Iterator[str]:
    for name in rules.allowed_models:
        entry = registry.models.get(name)
        if entry is None:
            yield f"environments.{environment.value}.allowed_models: {name} is not registered"
        elif environment is Environment.PROD and entry.license_tag is LicenseTag.RESEARCH_ONLY:
            yield (
                f"environments.prod.allowed_models: {name} is tagged research_only "
                f"({entry.license}) and must not be served in prod"
            )


def _bad_aliases(
    registry: Registry, environment: Environment, rules: EnvironmentRules
) -> Iterator[str]:
    fixed = {n for e in registry.models.values() for n in (e.name, e.runtime_name)}
    for alias, target in rules.aliases.items():
        where = f"environments.{environment.value}.aliases.{alias}"
        if target not in rules.allowed_models:
            yield f"{where}: {target} is not among allowed_models"
        if alias in fixed:
            yield f"{where}: a model's own name cannot mean another model"
