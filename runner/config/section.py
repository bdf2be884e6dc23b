"""The base class of every section of the configuration, and numbers with bounds."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError("must ascend and be unique")
    return values


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Level = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Ascending = AfterValidator(_ascending)


class Section(BaseModel):
    """One section: frozen, and without unknown keys.

    A field without a default is an operator's setting and must be in the file. A field with a
    default is an expert's: the docstring below it says what it means and why it has this value.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )
    no_longer_settings: ClassVar[Mapping[str, tuple[float, str]]] = {}
    """Keys of earlier versions: the only value that is still accepted, and the reason."""
    not_over: ClassVar[Mapping[str, str]] = {}
    """Pairs of fields: the first must not be over the second."""

    @model_validator(mode="before")
    @classmethod
    def _drop_old_keys(cls, values: Any) -> Any:
        """A file of an earlier version still loads, unless a key in it would have no effect."""
        if not isinstance(values, dict):
            return values
        for key in cls.no_longer_settings.keys() & values.keys():
            accepted, reason = cls.no_longer_settings[key]
            if values[key] not in (accepted, str(accepted)):
                raise ValueError(f"{key} is no longer a setting, remove it: {reason}")
        return {key: value for key, value in values.items() if key not in cls.no_longer_settings}

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        for low, high in self.not_over.items():
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} must not be over {high}")
        return self
