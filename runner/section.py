"""What every section of the configuration is made of: strictness, and numbers with their bounds."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Level = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]


def none_from_text(value: object) -> object:
    """The environment can only hand over text, so ``null`` has to be read here."""
    return None if value == "null" else value


class Section(BaseModel):
    """Frozen, complete, and free of surprises."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
