"""The model registry: names, licences and limits, and what each environment may serve.

Names resolve in this order: the environment's own aliases, then registered names, runtime names
and the models' aliases. Only ``runtime_name`` is sent to the runtime.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, model_validator

from runner.config.loading import Config, complaints, read_yaml
from runner.config.sections import Count, Environment, Level, Section
from runner.errors import ConfigError, ModelNotAllowedError, RequestError, UnknownModelError
from runner.types import FloatArray, ParamValue

Name = Annotated[str, Field(min_length=1, max_length=100)]
Params = tuple[tuple[str, ParamValue], ...]
Covariate = Mapping[str, FloatArray]  # by name
Covariates = Literal["none", "past", "past_and_future"]


class LicenseTag(StrEnum):
    """What the weights may be used for."""

    COMMERCIAL_OK = "commercial_ok"
    RESEARCH_ONLY = "research_only"


class NumberRule(Section):
    """A number that a caller may set, inside bounds; a boolean is not a number."""

    not_over: ClassVar = {"min": "max"}

    type: Literal["int", "float"]
    min: float
    max: float

    def accepts(self, value: object) -> bool:
        """Whether ``value`` has the type and is inside the bounds."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        right_type = self.type == "float" or isinstance(value, int)
        return right_type and self.min <= value <= self.max


class ChoiceRule(Section):
    """A text that a caller may choose from a list."""

    type: Literal["str"]
    choices: Annotated[tuple[str, ...], Field(min_length=1)]

    def accepts(self, value: object) -> bool:
        """Whether ``value`` is one of the choices."""
        return isinstance(value, str) and value in self.choices


ParamRule = Annotated[NumberRule | ChoiceRule, Field(discriminator="type")]


class ModelEntry(Section):
    """One model as registered."""

    name: Name  # the key in the file, unique
    runtime_name: Name  # its name in the runtime
    aliases: tuple[Name, ...]
    license_tag: LicenseTag
    license: Name  # SPDX identifier of the weights' licence
    version: Name | None  # of the weights, where it is known and fixed; runtimes do not report it
    max_series_per_call: Count | None
    max_context: Count | None  # past points that the model uses
    levels: tuple[Level, ...] | None  # the only ones that it supports; None is any, () is none
    level_range: tuple[Level, Level] | None = None  # the outermost reliable ones
    covariates: Covariates | None = None  # that it uses; None: not known
    allowed_params: Mapping[Name, ParamRule]  # of model.params; all others are dropped
    note: str | None  # one sentence that helps to choose a model
    skill: float | None = None  # 1 - pinball loss / that of the baseline; None: not measured
    skill_source: str | None = None  # the data of that measurement, and where it is described

    @property
    def names(self) -> frozenset[str]:
        """Every name of the model, aliases of environments excluded."""
        return frozenset((self.name, self.runtime_name, *self.aliases))

    def gives(self, levels: Sequence[float], params: Params = ()) -> bool:
        """Whether the model gives every one of the ascending levels, and is reliable there.

        Of n sample paths the lowest one is the quantile of 1 / (n + 1).
        """
        low, high = self.level_range or (0.0, 1.0)
        samples = dict(params).get("num_samples")
        if isinstance(samples, int):
            low, high = max(low, 1 / (samples + 1)), min(high, samples / (samples + 1))
        inside = low <= levels[0] and levels[-1] <= high
        return inside and (self.levels is None or set(levels) <= set(self.levels))

    def takes(self, past: Covariate, future: Covariate) -> tuple[Covariate, Covariate]:
        """Of the covariates those that the model uses; all, where that is not known."""
        uses_future = self.covariates in (None, "past_and_future")
        return {} if self.covariates == "none" else past, future if uses_future else {}

    def covariates_ignored(self, named: Iterable[str]) -> tuple[str, ...]:
        """Those of the named covariates that the model does not use at all, sorted."""
        return tuple(sorted(named)) if self.covariates == "none" else ()

    def filter_params(self, params: Mapping[str, Any]) -> Params:
        """The allowed pairs, sorted by name."""
        rules = self.allowed_params
        kept = {k: v for k, v in params.items() if k in rules and rules[k].accepts(v)}
        return tuple(sorted(kept.items()))


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
            near = get_close_matches(name, [*rules.aliases, *rules.allowed_models], 1)
            raise UnknownModelError(*near)
        if entry.name not in rules.allowed_models:
            why = "it is not among the environment's allowed_models"
            if entry.license_tag is LicenseTag.RESEARCH_ONLY:
                why = f"its licence ({entry.license}) is tagged research_only"
            raise ModelNotAllowedError(entry.name, environment.value, why)
        return entry

    def served(self, environment: Environment) -> tuple[ServedModel, ...]:
        """The models of ``environment`` in the file's order, each with its aliases there."""
        rules = self.environments[environment]
        allowed = (e for e in self.models.values() if e.name in rules.allowed_models)
        return tuple(ServedModel(entry, _aliases_in(entry, rules)) for entry in allowed)

    def batch_limit(self, runtime_name: str, most: int) -> int:
        """Series in one call to the model: its own limit, but at most ``most``."""
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
        if found := list(_contradictions(self)):
            raise ValueError("; ".join(found))
        return self


def registry_of(config: Config) -> Registry:
    """The registry that a configuration names; ConfigError if it names a model not served there."""
    registry = load_registry(config.models_file)
    wanted_models(registry, config)
    return registry


def wanted_models(registry: Registry, config: Config) -> frozenset[str]:
    """Runtime names of the models to load in advance; ConfigError if one cannot be served."""
    first = _configured(registry, config, "request.model", [config.request.model])
    others = _configured(registry, config, "tollama.warm_models", config.tollama.warm_models)
    shadow = shadow_models(registry, config)
    return frozenset(entry.runtime_name for entry in (*first, *others, *shadow))


def shadow_models(registry: Registry, config: Config) -> list[ModelEntry]:
    """The models of `routing.shadow`; ConfigError if one cannot be served."""
    return _configured(registry, config, "routing.shadow", config.routing.shadow)


def _configured(
    registry: Registry, config: Config, key: str, names: Iterable[str]
) -> list[ModelEntry]:
    found = []
    for name in names:
        try:
            found.append(registry.resolve(name, config.environment))
        except UnknownModelError as exc:
            served = ", ".join(one.entry.name for one in registry.served(config.environment))
            message = f"{key}: {name} is no model here; {config.environment} has {served}"
            raise ConfigError(message) from exc
        except RequestError as exc:
            raise ConfigError(f"{key}: {name}: {exc}") from exc
    return found


def load_registry(path: str | Path) -> Registry:
    """The registry in ``path``.

    Raises:
        ConfigError: the file cannot be read, or contradicts a rule of this module.
    """
    file = Path(path)
    try:
        return Registry.model_validate(read_yaml(file))
    except ValidationError as exc:
        raise ConfigError(f"{file}: {complaints(exc)}") from exc


def _aliases_in(entry: ModelEntry, rules: EnvironmentRules) -> tuple[str, ...]:
    own = {name for name in entry.names if name not in rules.aliases}
    given = {alias for alias, target in rules.aliases.items() if target == entry.name}
    return tuple(sorted((own | given) - {entry.name}))


def _contradictions(registry: Registry) -> Iterator[str]:
    """Errors across entries, one sentence each."""
    owner: dict[str, str] = {}
    for entry in registry.models.values():
        for name in sorted(entry.names):
            if name in owner:
                yield f"the name {name} means two models, {owner[name]} and {entry.name}"
            owner[name] = entry.name
    for environment in Environment:
        if environment not in registry.environments:
            yield f"environments.{environment.value} is missing"
    for environment, rules in registry.environments.items():
        yield from _contradictions_in(registry, environment, rules)


def _contradictions_in(
    registry: Registry, environment: Environment, rules: EnvironmentRules
) -> Iterator[str]:
    place = f"environments.{environment.value}"
    for name in rules.allowed_models:
        entry = registry.models.get(name)
        if entry is None:
            yield f"{place}.allowed_models: {name} is not registered"
        elif environment is Environment.PROD and entry.license_tag is LicenseTag.RESEARCH_ONLY:
            yield (
                f"{place}.allowed_models: {name} is tagged research_only "
                f"({entry.license}) and must not be served in prod"
            )
    fixed = {n for e in registry.models.values() for n in (e.name, e.runtime_name)}
    for alias, target in rules.aliases.items():
        if target not in rules.allowed_models:
            yield f"{place}.aliases.{alias}: {target} is not among allowed_models"
        if alias in fixed:
            yield f"{place}.aliases.{alias}: a model's own name cannot mean another model"
