"""The OpenAPI document: built once from the body models, the error table and the configuration.

The operations are a table. Status, code, message and headers of every error come from the functions
that the handlers use. Schemas are pydantic's own, with the configured limits added.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
import yaml
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from runner import errors
from runner.config.loading import Config
from runner.errors import RequestError
from serve_app.auth.access import ANY, NEEDS
from serve_app.http import board_endpoint as board
from serve_app.http import responses as out
from serve_app.http.batch_admission import RETRY_AFTER_S as BATCH_RETRY_AFTER_S
from serve_app.http.batch_endpoint import NDJSON
from serve_app.http.breaker_endpoint import (
    BREAKER_PATH,
    JSON,
    MAX_BODY_BYTES,
    NOT_JSON,
    BreakerCommandBody,
)
from serve_app.http.errors import (
    HTTP_CODES,
    PLATFORM_ERRORS,
    REQUEST_ID,
    UNEXPECTED,
    Described,
    describe,
    headers_of,
)
from serve_app.http.outcomes_endpoint import OutcomesAnswer, OutcomesBody
from serve_app.http.requests import DEADLINE_HEADER, MIN_LEVEL, BatchBody, ForecastBody
from serve_app.http.skill_endpoint import SkillAnswer
from serve_app.http.status_endpoint import MetricsText, StatusAnswer
from serve_app.platform_errors import RETRY_AFTER_S
from serve_app.telemetry.request_metrics import timing_header
from serve_app.version import package_version

Schema = dict[str, Any]
# By operation; then `request`, `answer` or `line`; then by name, as OpenAPI has them.
EXAMPLES: dict[str, dict[str, dict[str, dict[str, Any]]]] = yaml.safe_load(
    Path(__file__).with_name("examples.yaml").read_text("utf-8")
)
REQUESTS, ANSWERS = EXAMPLES["tsfm_forecast"]["request"], EXAMPLES["tsfm_forecast"]["answer"]
FORECAST = REQUESTS["whole"]["value"]  # the example of the specification
MODEL_ANSWER, BASELINE_ANSWER = ANSWERS["model"]["value"], ANSWERS["fallback"]["value"]
DescribedWithHeaders = tuple[Described, Mapping[str, str]]

PUBLIC_NAMES: Mapping[str, str] = {
    "ForecastBody": "ForecastRequest",
    "BatchBody": "BatchRequest",
    "BreakerCommandBody": "BreakerCommand",
    "BreakerCommand": "BreakerAction",
    "BoardBody": "BoardRequest",
    "BoardMarketBody": "BoardRequestMarket",
    "OutcomesBody": "OutcomesRequest",
    "OutcomeBody": "Outcome",
    "ModelBody": "ModelChoice",
    "TransformBody": "TransformChoice",
}
FORECASTS, SERVICE, OPERATORS = "Forecasts", "Service", "Operators"
_TAGS = (
    {"name": FORECASTS, "description": "Bands, checks of new prices, and what came of them."},
    {"name": SERVICE, "description": "What it serves, and how it is."},
    {"name": OPERATORS, "description": "Commands that change what it does."},
)
_INTRODUCTION = """\
Quantile bands for the next steps of a prediction market, by its deadline, whatever the model does.
`meta` of every answer says where the bands come from.

Fields are added, not renamed or removed, within a major version. Reasons, warnings and codes may
grow: treat those you do not know as their kind."""
_HEADERS: Sequence[Schema] = (
    {
        "name": DEADLINE_HEADER.title(),
        "in": "header",
        "description": "Like `deadline_ms`; the tightest one holds.",
        "schema": {"type": "number", "exclusiveMinimum": 0},
    },
    {
        "name": "X-Request-ID",
        "in": "header",
        "description": "Comes back in errors; another one does where it is not "
        f"`{REQUEST_ID.pattern}`.",
        "schema": {"type": "string"},
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """The one method of a path. ``errors`` are its own; errors of all operations are added."""

    method: str = "get"
    tag: str = SERVICE  # the group that it is shown in
    summary: str
    description: str = ""
    parameters: Sequence[Mapping[str, Any]] = ()  # in path and query
    request: type[BaseModel] | None = None
    answer: type[BaseModel]
    media_type: str = JSON
    lines: Sequence[type[BaseModel]] = ()  # the models of a line of an NDJSON answer
    headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of the answer
    errors: Sequence[RequestError] = ()


def operations_of(config: Config) -> Mapping[str, Operation]:
    """Every operation of a service with this configuration, by path."""
    return {
        "/tsfm/forecast": _forecast(config),
        "/tsfm/forecast/batch": _batch(config),
        "/tsfm/check": replace(
            _forecast(config),
            summary="Check the newest price of one market",
            description="A forecast without the newest values of `y`, and in `check` what these "
            "values are: inside its band, or outside, by how much and for how long.",
        ),
        "/tsfm/check/batch": replace(
            _batch(config),
            summary="Check the newest prices of a whole cycle",
            description="Like `/tsfm/forecast/batch`, with a `check` in each answer.",
        ),
        "/tsfm/outcomes": _outcomes(config),
        "/tsfm/board": Operation(
            summary="The markets of every watch, as its last cycle found them",
            description="For the console's first page.",
            parameters=(_KNOWN_VERSION,),
            answer=board.BoardsAnswer,
        ),
        board.BOARD_PATH: _board(config),
        "/tsfm/models": Operation(
            summary="Models this environment serves", answer=out.ModelsAnswer
        ),
        "/tsfm/skill": Operation(
            summary="How each model does beside the baseline",
            description="By segment of markets, on forecasts whose outcomes were in later "
            "requests; see docs/evidence.md.",
            answer=SkillAnswer,
        ),
        "/tsfm/status": Operation(summary="What the service is doing", answer=StatusAnswer),
        BREAKER_PATH: _breaker(config),
        "/metrics": Operation(
            summary="Numbers of all replicas, for Prometheus",
            answer=MetricsText,
            media_type="text/plain",
        ),
        "/healthz": Operation(summary="Whether the process answers", answer=out.LiveAnswer),
        "/readyz": Operation(summary="Whether forecasts can be answered", answer=out.ReadyAnswer),
        "/openapi.json": Operation(summary="This document", answer=out.Document),
    }


def _forecast(config: Config) -> Operation:
    limits = config.request
    return Operation(
        method="post",
        tag=FORECASTS,
        summary="Forecast one market",
        description=f"A valid band leaves within {limits.deadline_ms:g} ms. The newest "
        f"{limits.input_len_steps} steps of `y` are used.",
        request=ForecastBody,
        answer=out.ForecastAnswer,
        headers={"Server-Timing": _SERVER_TIMING},
        errors=(
            *_body_errors(config, limits.max_body_bytes, _WRONG_VALUE),
            *(errors.UnknownModelError(), _NOT_ALLOWED),
            *(errors.OverloadedError(config.overload.retry_after_s), _spent(config)),
        ),
    )


def _batch(config: Config) -> Operation:
    limits = config.request
    return Operation(
        method="post",
        tag=FORECASTS,
        summary="Forecast a whole cycle",
        description=f"Up to {limits.max_batch_requests} requests, answered within "
        f"{limits.batch_deadline_ms:g} ms; they have no `deadline_ms` of their own. A bad request "
        f"is an error for itself alone. With `Accept: {NDJSON}` each result is a line, sent when "
        "it is there.",
        request=BatchBody,
        answer=out.BatchAnswer,
        lines=(out.LineOk, out.LineError),
        errors=(
            *_body_errors(config, limits.max_batch_body_bytes, _WRONG_VALUE),
            *(
                errors.BatchTooLongError(limits.max_batch_requests),
                errors.OverloadedError(BATCH_RETRY_AFTER_S),
            ),
            _spent(config),
        ),
    )


def _outcomes(config: Config) -> Operation:
    learning = config.conformal
    return Operation(
        method="post",
        tag=FORECASTS,
        summary="Say what came of forecasts",
        description="For callers whose requests do not carry the values that earlier ones "
        "forecast: those need nothing. A list is taken whole or not at all; to send it again does "
        "no harm.",
        request=OutcomesBody,
        answer=OutcomesAnswer,
        errors=(
            *_body_errors(config, config.request.max_body_bytes, _WRONG_OUTCOME),
            *(errors.BatchTooLongError(learning.max_outcomes), _spent(config)),
            errors.OutcomesUnavailableError(max(1.0, learning.exchange_interval_s)),
        ),
    )


def _board(config: Config) -> Operation:
    return Operation(
        method="put",
        tag=OPERATORS,
        summary="Show the markets of a watch on the board",
        description="`tsfm watch` sends them after each cycle. They replace those of the cycle "
        f"before, at most {board.MAX_MARKETS}. The boards of the {board.MAX_BOARDS} newest watches "
        "are kept until the service ends.",
        parameters=(_WATCH_IN_PATH,),
        request=board.BoardBody,
        answer=board.BoardTaken,
        errors=(
            *_body_errors(config, config.request.max_body_bytes, _WRONG_MARKET),
            *(errors.BatchTooLongError(board.MAX_MARKETS), _spent(config)),
            errors.BoardUnavailableError(board.RETRY_AFTER_S),
        ),
    )


def _breaker(config: Config) -> Operation:
    return Operation(
        method="post",
        tag=OPERATORS,
        summary="Force a breaker open or closed, or reset it",
        description="What is forced stays forced until the next command. All replicas know "
        "within 1 s.",
        parameters=(_MODEL_IN_PATH,),
        request=BreakerCommandBody,
        answer=out.BreakerAnswer,
        errors=(
            *_body_errors(config, MAX_BODY_BYTES, errors.InvalidRequestError(*NOT_JSON)),
            *(errors.UnknownModelError(), _NOT_ALLOWED, errors.BreakerUnreachableError()),
        ),
    )


def _body_errors(
    config: Config, max_body_bytes: int, wrong: RequestError
) -> Sequence[RequestError]:
    too_late = errors.BodyTimeoutError(config.request.body_timeout_s)
    return errors.InvalidJsonError(), wrong, errors.BodyTooLargeError(max_body_bytes), too_late


def _spent(config: Config) -> RequestError:
    security = config.security
    return errors.RateLimitedError(1.0, security.burst_steps, security.refill_steps_per_s)


_MODEL_IN_PATH = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "Alias or runtime name; see /tsfm/models.",
    "schema": {"type": "string", "minLength": 1},
}
_KNOWN_VERSION = {
    "name": "known",
    "in": "query",
    "description": "The version that the caller has: spares boards that have not changed.",
    "schema": {"type": "string"},
}
_WATCH_IN_PATH = {
    "name": "watch",
    "in": "path",
    "required": True,
    "description": "A name for the watch.",
    "schema": {"type": "string", "pattern": r"^[A-Za-z0-9_.-]{1,64}$"},
}
_SERVER_TIMING = {
    "description": "Where the time went, in ms.",
    "schema": {"type": "string"},
    "example": timing_header(
        {"admission": 0.4, "queue": 1.2, "runtime": 80.0, "post": 0.2, "total": 83.1}
    ).decode(),
}
_WRONG_VALUE = errors.InvalidRequestError("y.3", "Probabilities lie between 0 and 1.")
_WRONG_OUTCOME = errors.InvalidRequestError(
    "outcomes.3.value", "Input should be less than or equal to 1"
)
_WRONG_MARKET = errors.InvalidRequestError("markets.3.y", "Probabilities lie between 0 and 1.")
_NOT_ALLOWED = errors.ModelNotAllowedError(
    "moirai-2.0-R-small", "prod", "its licence (CC-BY-NC-4.0) is tagged research_only"
)


def build_document(config: Config) -> Schema:
    """The document of a service with this configuration, ready for JSON."""
    operations = operations_of(config)
    guarded = bool(config.security.tokens)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "TSFM Runner",
            "version": package_version(),
            "description": _INTRODUCTION,
        },
        "tags": _TAGS,
        "paths": {
            path: {operation.method: _operation(path, operation, guarded)}
            for path, operation in operations.items()
        },
        "components": {
            "schemas": _schemas(operations.values(), config),
            "responses": {
                str(s): _refusal(s, [(Described(s, *c), {})]) for s, c in HTTP_CODES.items()
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(path: str, operation: Operation, guarded: bool) -> Schema:
    name = path.strip("/").replace("/", "_").replace(".", "_")
    examples = EXAMPLES.get(name, {})
    security: list[Schema] = [{"bearer": [scope.value]} for scope in sorted(NEEDS[path])]
    schema: Schema = {
        "operationId": name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": {"200": _answer(operation, examples), **_refusals(path, operation)},
        "security": security if guarded else [{}, *security],
    }
    if operation.description:
        schema["description"] = operation.description
    if parameters := [*operation.parameters, *(_HEADERS if operation.request else ())]:
        schema["parameters"] = parameters
    if operation.request:
        content = {"schema": _ref(operation.request), "examples": examples["request"]}
        schema["requestBody"] = {"required": True, "content": {JSON: content}}
    return schema


def _answer(operation: Operation, examples: Mapping[str, Any]) -> Schema:
    content: Schema = {operation.media_type: {"schema": _ref(operation.answer)}}
    if "answer" in examples:
        content[operation.media_type]["examples"] = examples["answer"]
    if operation.lines:
        schema = {"anyOf": [_ref(model) for model in operation.lines]}
        content[NDJSON] = {"schema": schema, "examples": examples["line"]}
    answer: Schema = {"description": operation.summary, "content": content}
    return answer | ({"headers": operation.headers} if operation.headers else {})


# Serve's 429 has the same code as our own.
_PLATFORM: Sequence[DescribedWithHeaders] = (
    (PLATFORM_ERRORS[408], {}),
    (PLATFORM_ERRORS[503], {"retry-after": str(RETRY_AFTER_S)}),
)


def _refusals(path: str, operation: Operation) -> Mapping[str, Schema]:
    """By status: errors of the operation, of access control, of the service and of Serve."""
    needs, possible = NEEDS[path], [*operation.errors]
    if needs:
        possible.append(errors.UnauthorizedError(presented=False))
    if needs and needs != ANY:
        possible.append(errors.InsufficientScopeError(tuple(sorted(needs))))
    ours = [(describe(error), headers_of(error)) for error in possible]
    by_status: dict[int, list[DescribedWithHeaders]] = {}
    for described in ((UNEXPECTED, {}), *ours, *_PLATFORM):
        by_status.setdefault(described[0].status, []).append(described)
    return {str(status): _refusal(status, by_status[status]) for status in sorted(by_status)}


def _refusal(status: int, described: Sequence[DescribedWithHeaders]) -> Schema:
    """The answer of one status: its codes with an example of each, and their headers."""
    examples = {
        error.code: {"value": {"error": {**error.as_object(), "request_id": "a1b2c3"}}}
        for error, _ in described
    }
    headers = {
        name.title(): {"schema": {"type": "string"}, "example": value}
        for _, brought in described
        for name, value in brought.items()
    }
    codes = ", ".join(f"`{code}`" for code in examples)
    schema: Schema = {
        "description": f"{HTTPStatus(status).phrase}: {codes}",
        "content": {JSON: {"schema": _ref(out.ErrorAnswer), "examples": examples}},
    }
    return schema | ({"headers": headers} if headers else {})


class _Generator(GenerateJsonSchema):
    """Uses the public names, and omits titles that repeat them."""

    def normalize_name(self, name: str) -> str:
        normal = super().normalize_name(name)
        return PUBLIC_NAMES.get(normal, normal)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", ...) is None:  # means only that the field is optional
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


def _ref(model: type[BaseModel]) -> Schema:
    return {"$ref": f"#/components/schemas/{PUBLIC_NAMES.get(model.__name__, model.__name__)}"}


def _schemas(operations: Iterable[Operation], config: Config) -> dict[str, Schema]:
    """The schema of each model and of its parts, by public name."""
    models: list[type[BaseModel]] = [out.ErrorAnswer]
    models += [m for o in operations for m in (o.request, o.answer, *o.lines) if m]
    schemas: dict[str, Schema] = orjson.loads(_schemas_without_limits(tuple(models)))
    for name, properties in _limits(config).items():
        for prop, extra in properties.items():
            _add(schemas[name]["properties"][prop], extra)
    return schemas


@cache  # a service needs it once; a test run has hundreds of services
def _schemas_without_limits(models: tuple[type[BaseModel], ...]) -> bytes:
    _, document = models_json_schema(
        [(model, "validation") for model in models],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Generator,
    )
    for schema in document["$defs"].values():
        schema.pop("title", None)
    return orjson.dumps(document["$defs"])


def _limits(config: Config) -> Mapping[str, Mapping[str, Schema]]:
    """The configured limits, by schema and property; the fixed limits are in the body models."""
    request, transform = config.request, config.transform
    level = {"minimum": MIN_LEVEL, "maximum": 1 - MIN_LEVEL}
    levels = {"maxItems": request.max_levels, "uniqueItems": True, "items": level}
    return {
        "ForecastRequest": {
            "freq": {"default": request.freq},
            "horizon_steps": {
                "maximum": request.max_horizon_steps,
                "default": request.horizon_steps,
            },
            "quantiles": {**levels, "default": list(request.quantiles)},
            "y": {"maxItems": request.max_points, "items": {"minimum": 0, "maximum": 1}},
            "y_ts": {"maxItems": request.max_points},
            "x_past": {"maxProperties": request.max_covariates},
            "x_future": {"maxProperties": request.max_covariates},
            "max_gap_minutes": {"default": request.max_gap_minutes},
            "liquidity_bucket": {"examples": list(config.fallback.baseline_only_liquidity)},
        },
        "BatchRequest": {
            "requests": {"maxItems": request.max_batch_requests},
            "deadline_ms": {"default": request.batch_deadline_ms},
        },
        "OutcomesRequest": {"outcomes": {"maxItems": config.conformal.max_outcomes}},
        "ModelChoice": {"model_name": {"default": request.model}},
        "TransformChoice": {
            "space": {"default": transform.space.value},
            "eps": {"default": transform.eps},
        },
    }


def _add(schema: Schema, extra: Schema) -> None:
    """Adds ``extra`` to the part of ``schema`` that is not null; a default to the whole."""
    part = schema["anyOf"][0] if "anyOf" in schema else schema
    for key, value in extra.items():
        if key == "items":
            _add(part["items"], value)
        elif key in ("default", "examples"):
            schema[key] = value
        else:
            part[key] = value
