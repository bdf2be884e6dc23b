"""The watch list: a YAML file that says which markets are watched, and how.

    markets:
      - will-it-rain-tomorrow
      - {id: who-wins, levels: [0.05, 0.5, 0.95], p_value: 0.001, severity: run}

What is not given for a market is as for all.
"""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from serve_app.watch.alerts import Rule, Severity

MOST_BYTES = 2**20


class ListedMarket(BaseModel):
    """One market; what is not given is as for all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(min_length=1, max_length=128)]
    levels: Annotated[list[float], Field(min_length=1, max_length=99)] | None = None
    p_value: Annotated[float, Field(gt=0, le=1)] | None = None
    beyond_widths: Annotated[float, Field(ge=0)] | None = None
    severity: Literal["breach", "run", "holds"] | None = None

    def rule(self, usual: Rule) -> Rule:
        """The rule of this market."""
        return Rule(
            usual.p_value if self.p_value is None else self.p_value,
            usual.beyond_widths if self.beyond_widths is None else self.beyond_widths,
            usual.severity if self.severity is None else Severity[self.severity.upper()],
        )


class WatchList(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    markets: Annotated[list[ListedMarket], Field(min_length=1)]

    @field_validator("markets", mode="before")
    @classmethod
    def _short(cls, markets: object) -> object:
        """A text alone is an id."""
        if not isinstance(markets, list):
            return markets
        return [{"id": one} if isinstance(one, str) else one for one in markets]


def read_watch_list(path: Path) -> WatchList:
    """Reads the file; ValueError names it and what is wrong."""
    try:
        with path.open("rb") as file:
            content = yaml.safe_load(file.read(MOST_BYTES))
        return WatchList.model_validate(content)
    except OSError as exc:
        raise ValueError(f"{path}: cannot be read ({exc.strerror})") from exc
    except yaml.YAMLError as exc:
        raise ValueError(f"{path}: is not YAML") from exc
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{path}: {where}: {first['msg']}") from exc
