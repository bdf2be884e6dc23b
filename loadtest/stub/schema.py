"""Which bodies tollama's schema accepts, and the complaints it makes about the others.

tollama checks bodies with pydantic, and so does this. Fields, limits, texts and their order were
observed on a tollama 0.1.0 daemon.
"""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

Complaint = dict[str, Any]


def complaints_about(payload: Any) -> list[Complaint]:
    """Every complaint about a parsed body, in the order the real runtime gives them."""
    if payload is None:
        return [complaint("missing", ("body",), "Field required", None)]
    try:
        _REQUEST.validate_python(payload, from_attributes=True)
    except ValidationError as exc:
        return [_as_told(error) for error in exc.errors(include_url=False)]
    return []


def covariate_kind(values: list[Any]) -> str:
    return "categorical" if type(values[0]) is str else "numeric"


def complaint(
    kind: str, loc: tuple[str | int, ...], message: str, value: Any, **ctx: Any
) -> Complaint:
    """One entry of ``detail``; like the real one it quotes the input back."""
    entry = {"type": kind, "loc": list(loc), "msg": message, "input": value}
    return {**entry, "ctx": ctx} if ctx else entry


def _as_told(error: Any) -> Complaint:
    """pydantic's entry in the form it has in the body of the answer."""
    ctx = {name: str(v) if name == "error" else v for name, v in error.get("ctx", {}).items()}
    return complaint(error["type"], ("body", *error["loc"]), error["msg"], error["input"], **ctx)


def _ascending(levels: list[float]) -> list[float]:
    if levels != sorted(levels):
        raise ValueError("quantiles must be sorted in ascending order")
    if len(levels) != len(set(levels)):
        raise ValueError("quantiles must be unique")
    return levels


_Text = Annotated[str, Field(min_length=1)]
_Numbers = Annotated[list[int | float], Field(min_length=1)]
_Level = Annotated[float, Field(gt=0, lt=1)]
_Columns = dict[str, list[int | float | str]]


class _Series(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    id: _Text
    freq: _Text = "auto"
    timestamps: Annotated[list[_Text], Field(min_length=1)]
    target: _Numbers
    actuals: _Numbers | None = None
    past_covariates: _Columns | None = None
    future_covariates: _Columns | None = None
    static_covariates: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _lengths_match(self) -> "_Series":
        points = len(self.timestamps)
        if len(self.target) != points:
            raise ValueError("target length must match timestamps length")
        for name, values in (self.past_covariates or {}).items():
            _check_column(f"past_covariates[{name!r}]", values)
            if len(values) != points:
                raise ValueError(f"past_covariates[{name!r}] length must match timestamps length")
        for name, values in (self.future_covariates or {}).items():
            _check_column(f"future_covariates[{name!r}]", values)
        return self


def _check_column(name: str, values: list[Any]) -> None:
    if not values:
        raise ValueError(f"{name} must not be empty")
    if len({type(value) is str for value in values}) > 1:
        only = "must contain either only numeric values or only string values"
        raise ValueError(f"{name} {only}")


class _Request(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    model: _Text
    horizon: Annotated[int, Field(gt=0)]
    modelfile: _Text | None = None
    data_url: _Text | None = None
    quantiles: Annotated[list[_Level], AfterValidator(_ascending)] = []
    series: list[_Series] = []
    options: dict[str, Any] = {}
    timeout: Annotated[float, Field(gt=0)] | None = None
    ingest: Any = None
    parameters: dict[str, Any] = {}
    response_options: dict[str, Any] = {}
    keep_alive: Any = None

    @model_validator(mode="after")
    def _fits_together(self) -> "_Request":
        if not self.series and self.data_url is None:
            raise ValueError("either series or data_url is required")
        if self.series and self.data_url is not None:
            raise ValueError("series and data_url cannot be combined")
        for message in _wrong_futures(self.series, self.horizon):
            raise ValueError(message)
        return self


def _wrong_futures(many: list[_Series], horizon: int) -> Iterator[str]:
    for series in many:
        past, future = series.past_covariates or {}, series.future_covariates or {}
        for name, values in future.items():
            if len(values) != horizon:
                yield f"future_covariates[{name!r}] length must match horizon ({horizon})"
        for name in sorted(future.keys() - past.keys()):
            missing = f"missing past values for covariate {name!r}"
            yield f"future_covariates must also exist in past_covariates; {missing}"
        for name in (name for name in future if name in past):
            then, ahead = covariate_kind(past[name]), covariate_kind(future[name])
            if then != ahead:
                kinds = f"covariate {name!r} has past={then} future={ahead}"
                yield f"covariate type must be consistent between past and future values; {kinds}"


_REQUEST = TypeAdapter(_Request)
