"""How tollama accepts a call to ``POST /v1/forecast`` and how it refuses one, without a server.

Statuses, limits, texts, hints and their order were observed on a tollama 0.1.0 daemon, which checks
bodies with pydantic too. Fields that the service does not send are unknown here.
"""

import json
from collections.abc import Collection, Mapping
from typing import Annotated, Any

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

MAX_BODY_BYTES = 10 * 1024 * 1024
_HINTS = {
    400: "Fix request payload or parameters and retry.",
    503: "Retry after daemon dependencies are available.",
}
_NOT_INSTALLED_HINT = (
    "Run `tollama pull <model>` to install. Use `tollama info --json` to inspect available models."
)


class RefusedError(Exception):
    """A refusal: a status, a ``detail`` for the body, and extra headers."""

    def __init__(self, status: int, detail: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, headers)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def error_body(status: int, detail: Any) -> dict[str, Any]:
    """The JSON body of an error; some statuses come with a hint for the operator."""
    not_installed = status == 404 and isinstance(detail, str) and "not installed" in detail
    hint = _NOT_INSTALLED_HINT if not_installed else _HINTS.get(status)
    return {"detail": detail, "hint": hint} if hint else {"detail": detail}


def require_size(content_length: str | None) -> None:
    """413 by the announced length, before the body is read."""
    length = int(content_length) if content_length and content_length.isdigit() else 0
    if length > MAX_BODY_BYTES:
        raise RefusedError(413, f"request body too large: {length} bytes exceeds 10 MB limit")


def parse(body: bytes, content_type: str) -> Any:
    """The JSON value in ``body``; without a JSON content type the body stays one long string."""
    essence = content_type.partition(";")[0].strip().lower()
    if body and not (essence.startswith("application/") and essence.endswith(("/json", "+json"))):
        return body.decode("utf-8", "replace")
    try:
        return orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return _parse_as_python_does(body)  # which also accepts NaN and Infinity


def check(payload: Any) -> None:
    """Raises 400 with every error of a parsed body, in the order of the real runtime."""
    if payload is None:
        raise RefusedError(400, [_error("missing", ("body",), "Field required", None)])
    try:
        _REQUEST.validate_python(payload, from_attributes=True)
    except ValidationError as exc:
        raise RefusedError(400, [_as_sent(one) for one in exc.errors(include_url=False)]) from exc


def require_installed(model: str, installed: Collection[str]) -> None:
    """404 for a model that is not installed; ``*`` among the installed ones is any model."""
    if model not in installed and "*" not in installed:
        raise RefusedError(404, f"model {model!r} is not installed")


def _parse_as_python_does(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8", "replace"))
    except json.JSONDecodeError as exc:
        wrong = _error("json_invalid", ("body", exc.pos), "JSON decode error", {}, error=exc.msg)
        raise RefusedError(400, [wrong]) from exc


def _error(
    kind: str, loc: tuple[str | int, ...], message: str, value: Any, **ctx: Any
) -> dict[str, Any]:
    """One entry of ``detail``; it repeats the input, as the real one does."""
    entry = {"type": kind, "loc": list(loc), "msg": message, "input": value}
    return {**entry, "ctx": ctx} if ctx else entry


def _as_sent(error: Any) -> dict[str, Any]:
    """pydantic's entry in the form it has in the body of the answer."""
    ctx = {name: str(v) if name == "error" else v for name, v in error.get("ctx", {}).items()}
    return _error(error["type"], ("body", *error["loc"]), error["msg"], error["input"], **ctx)


def _ascending(levels: list[float]) -> list[float]:
    if levels != sorted(levels):
        raise ValueError("quantiles must be sorted in ascending order")
    if len(levels) != len(set(levels)):
        raise ValueError("quantiles must be unique")
    return levels


_Text = Annotated[str, Field(min_length=1)]
_Numbers = Annotated[list[int | float], Field(min_length=1)]
_Level = Annotated[float, Field(gt=0, lt=1)]
_Columns = dict[str, _Numbers]


class _Series(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    id: _Text
    freq: _Text = "auto"
    timestamps: Annotated[list[_Text], Field(min_length=1)]
    target: _Numbers
    past_covariates: _Columns | None = None
    future_covariates: _Columns | None = None

    @model_validator(mode="after")
    def _lengths_match(self) -> "_Series":
        points = len(self.timestamps)
        if len(self.target) != points:
            raise ValueError("target length must match timestamps length")
        for name, values in (self.past_covariates or {}).items():
            if len(values) != points:
                raise ValueError(f"past_covariates[{name!r}] length must match timestamps length")
        return self


class _Request(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    model: _Text
    horizon: Annotated[int, Field(gt=0)]
    quantiles: Annotated[list[_Level], AfterValidator(_ascending)] = []
    series: list[_Series] = []
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _fits_together(self) -> "_Request":
        if not self.series:
            raise ValueError("either series or data_url is required")
        for series in self.series:
            _check_future(series, self.horizon)
        return self


def _check_future(series: _Series, horizon: int) -> None:
    past, future = series.past_covariates or {}, series.future_covariates or {}
    for name, values in future.items():
        if len(values) != horizon:
            raise ValueError(f"future_covariates[{name!r}] length must match horizon ({horizon})")
    for name in sorted(future.keys() - past.keys()):
        missing = f"missing past values for covariate {name!r}"
        raise ValueError(f"future_covariates must also exist in past_covariates; {missing}")


_REQUEST = TypeAdapter(_Request)
