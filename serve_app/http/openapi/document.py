"""The OpenAPI document: built once from the body models, the error table and the configuration.

Status, code, message and headers of every error come from the functions that the handlers use.
Schemas are pydantic's own, with the configured limits added.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from runner.config.loading import Config
from runner.errors import InsufficientScopeError, RequestError, UnauthorizedError
from serve_app.auth.access import ANY, NEEDS, access_headers
from serve_app.http import responses as out
from serve_app.http.batch_endpoint import NDJSON
from serve_app.http.body import DEADLINE_HEADER
from serve_app.http.errors import (
    HTTP_CODES,
    PLATFORM_ERRORS,
    REQUEST_ID,
    UNEXPECTED,
    Described,
    describe,
    retry_after,
)
from serve_app.http.openapi.examples import EXAMPLES
from serve_app.http.openapi.operations import Operation, operations_of
from serve_app.http.requests import MIN_LEVEL
from serve_app.platform_errors import RETRY_AFTER_S
from serve_app.version import package_version

Schema = dict[str, Any]
DescribedWithHeaders = tuple[Described, Mapping[str, str]]

JSON = "application/json"
PUBLIC_NAMES: Mapping[str, str] = {
    "ForecastBody": "ForecastRequest",
    "BatchBody": "BatchRequest",
    "BreakerCommandBody": "BreakerCommand",
    "BreakerCommand": "BreakerAction",
    "OutcomesBody": "OutcomesRequest",
    "OutcomeBody": "Outcome",
    "ModelBody": "ModelChoice",
    "TransformBody": "TransformChoice",
}
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
        "summary": operation.summary,
        "responses": {"200": _answer(operation, examples), **_refusals(path, operation)},
        "security": security if guarded else [{}, *security],
    }
    if operation.description:
        schema["description"] = operation.description
    if operation.request:
        schema["parameters"] = [*operation.parameters, *_HEADERS]
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
    needs = NEEDS[path]
    gate: list[RequestError] = [UnauthorizedError(presented=False)] if needs else []
    if needs and needs != ANY:
        gate.append(InsufficientScopeError(tuple(sorted(needs))))
    by_status: dict[int, list[DescribedWithHeaders]] = {UNEXPECTED.status: [(UNEXPECTED, {})]}
    for error in (*operation.errors, *gate):
        described = describe(error), retry_after(error) | access_headers(error)
        by_status.setdefault(described[0].status, []).append(described)
    for refused in _PLATFORM:
        by_status.setdefault(refused[0].status, []).append(refused)
    return {str(status): _refusal(status, by_status[status]) for status in sorted(by_status)}


def _refusal(status: int, errors: Sequence[DescribedWithHeaders]) -> Schema:
    """The answer of one status: its codes with an example of each, and their headers."""
    examples = {
        error.code: {"value": {"error": {**error.as_object(), "request_id": "a1b2c3"}}}
        for error, _ in errors
    }
    headers = {
        name.title(): {"schema": {"type": "string"}, "example": value}
        for _, brought in errors
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
