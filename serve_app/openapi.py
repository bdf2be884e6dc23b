"""The OpenAPI document: built once from the wire models, the error table and the configuration.

Status, code, words and headers of every error are those that the handlers give, because the same
functions are asked.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from pydantic import BaseModel

from runner.config import Config
from runner.errors import InsufficientScopeError, RequestError, UnauthorizedError
from serve_app import schemas_out as out
from serve_app.access import ANY, NEEDS
from serve_app.access_headers import access_headers
from serve_app.admission import DEADLINE_HEADER
from serve_app.batch_endpoint import NDJSON
from serve_app.errors import (
    HTTP_CODES,
    PLATFORM_ERRORS,
    REQUEST_ID,
    UNEXPECTED,
    Described,
    describe,
    retry_after,
)
from serve_app.openapi_operations import Operation, operations_of
from serve_app.openapi_schemas import Schema, ref, schemas_of
from serve_app.platform_errors import RETRY_AFTER_S
from serve_app.version import package_version

JSON = "application/json"
Refused = tuple[Described, Mapping[str, str]]  # with the headers of the answer

_INTRODUCTION = """\
Quantile bands for the next steps of a prediction market, by its deadline, whatever the model does.
`meta` of every answer says where the bands come from.

Fields are added, not renamed or removed, within a major version. Reasons, warnings and codes may
grow: treat those you do not know as their kind."""


def build_document(config: Config) -> Schema:
    """The document of a service with this configuration, ready for JSON."""
    operations = operations_of(config)
    models: list[type[BaseModel]] = [out.ErrorAnswer]
    for operation in operations.values():
        models.extend(operation.models)
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
            "schemas": schemas_of(models, config),
            "responses": {str(s): _refusal([_http(s)]) for s in HTTP_CODES},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(path: str, operation: Operation, guarded: bool) -> Schema:
    needs = NEEDS[path]
    security: list[Schema] = [{"bearer": [scope.value]} for scope in sorted(needs)]
    schema: Schema = {
        "operationId": path.strip("/").replace("/", "_").replace(".", "_"),
        "summary": operation.summary,
        "responses": {"200": _answer(operation), **_refusals(_all_errors(path, operation))},
        "security": security if guarded else [{}, *security],
    }
    if operation.description:
        schema["description"] = operation.description
    if operation.parameters:
        schema["parameters"] = operation.parameters
    if operation.request:
        schema["parameters"] = (*operation.parameters, *_HEADERS)
        content = {"schema": ref(operation.request), "examples": operation.request_examples}
        schema["requestBody"] = {"required": True, "content": {JSON: content}}
    return schema


_REQUEST_ID = REQUEST_ID.pattern
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
        "description": f"Comes back in errors; another one does where it is not `{_REQUEST_ID}`.",
        "schema": {"type": "string"},
    },
)


def _answer(operation: Operation) -> Schema:
    plain: Schema = {"schema": ref(operation.answer)}
    if operation.examples:
        plain["examples"] = operation.examples
    content = {operation.media_type: plain}
    if operation.lines:
        schema = {"anyOf": [ref(model) for model in operation.lines]}
        content[NDJSON] = {"schema": schema, "examples": operation.line_examples}
    answer: Schema = {"description": operation.summary, "content": content}
    return answer | ({"headers": operation.headers} if operation.headers else {})


def _all_errors(path: str, operation: Operation) -> list[Refused]:
    """What the operation itself refuses, what the gate does, our own faults, and the platform's."""
    needs = NEEDS[path]
    gate: list[RequestError] = [UnauthorizedError(presented=False)] if needs else []
    if needs and needs != ANY:
        gate.append(InsufficientScopeError(tuple(sorted(needs))))
    refused: list[Refused] = [
        (describe(error), retry_after(error) | access_headers(error))
        for error in (*operation.errors, *gate)
    ]
    return [*refused, (UNEXPECTED, {}), *_PLATFORM]


# The platform's 429 has the code of one of ours.
_PLATFORM: Sequence[Refused] = (
    (PLATFORM_ERRORS[408], {}),
    (PLATFORM_ERRORS[503], {"retry-after": str(RETRY_AFTER_S)}),
)


def _http(status: int) -> Refused:
    return Described(status, *HTTP_CODES[status]), {}


def _refusals(errors: Sequence[Refused]) -> Mapping[str, Schema]:
    by_status: defaultdict[int, list[Refused]] = defaultdict(list)
    for error in errors:
        by_status[error[0].status].append(error)
    return {str(status): _refusal(by_status[status]) for status in sorted(by_status)}


def _refusal(errors: Sequence[Refused]) -> Schema:
    """The answer of one status: its codes with an example of each, and the headers they bring."""
    examples = {
        error.code: {"value": {"error": {**error.as_object(), "request_id": "a1b2c3"}}}
        for error, _ in errors
    }
    headers = {
        name.title(): {"schema": {"type": "string"}, "example": value}
        for _, brought in errors
        for name, value in brought.items()
    }
    phrase, codes = HTTPStatus(errors[0][0].status).phrase, ", ".join(f"`{c}`" for c in examples)
    schema: Schema = {
        "description": f"{phrase}: {codes}",
        "content": {JSON: {"schema": ref(out.ErrorAnswer), "examples": examples}},
    }
    return schema | ({"headers": headers} if headers else {})


def _info() -> Schema:
    return {"title": "TSFM Runner", "version": package_version(), "description": _INTRODUCTION}
