"""Tables from errors to HTTP status and stable code: ours by class, Starlette's, and Serve's.

Error messages are our own texts: never a stack trace, another system's text, or the caller's input.
"""

import logging
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from runner.errors import (
    BatchTooLongError,
    BoardUnavailableError,
    BodyTimeoutError,
    BodyTooLargeError,
    BreakerUnreachableError,
    ConfigError,
    InsufficientScopeError,
    InvalidJsonError,
    InvalidRequestError,
    ModelNotAllowedError,
    OutcomesUnavailableError,
    OverloadedError,
    RateLimitedError,
    RequestError,
    TsfmError,
    UnauthorizedError,
    UnknownModelError,
)
from serve_app.auth.access import access_headers
from serve_app.http.requests import FIELD_NAMES, field_path
from serve_app.platform_errors import (
    INTERNAL_ERROR,
    NOT_FOUND,
    REQUEST_TIMEOUT,
    RETRY_AFTER_S,
    UNAVAILABLE,
)

logger = logging.getLogger(__name__)

INVALID_JSON = (400, "invalid_json")
STATUS_AND_CODE: Mapping[type[TsfmError], tuple[int, str]] = {
    InvalidJsonError: INVALID_JSON,
    InvalidRequestError: (422, "invalid_request"),
    BodyTooLargeError: (413, "body_too_large"),
    BatchTooLongError: (413, "batch_too_long"),
    OverloadedError: (429, "overloaded"),
    BreakerUnreachableError: (503, "breaker_unreachable"),
    OutcomesUnavailableError: (503, "outcomes_unavailable"),
    BoardUnavailableError: (503, UNAVAILABLE[0]),
    BodyTimeoutError: (408, "body_timeout"),
    UnauthorizedError: (401, "unauthorized"),
    InsufficientScopeError: (403, "insufficient_scope"),
    RateLimitedError: (429, "rate_limited"),
    UnknownModelError: (404, "unknown_model"),
    ModelNotAllowedError: (403, "model_not_allowed"),
    RequestError: (400, "bad_request"),
    ConfigError: (500, INTERNAL_ERROR[0]),
}
HTTP_CODES: Mapping[int, tuple[str, str]] = {
    404: NOT_FOUND,
    405: ("method_not_allowed", "This path does not take that method; see the Allow header."),
}
CODES = frozenset(  # every code that a caller can receive
    [code for _, code in STATUS_AND_CODE.values()]
    + [code for code, _ in HTTP_CODES.values()]
    + [code for code, _ in (UNAVAILABLE, REQUEST_TIMEOUT)]
)
MAX_DETAILS = 10
MAX_LISTED = 1000  # with more errors in a body only their number is reported: 5 ms of work
REQUEST_ID = re.compile(r"[A-Za-z0-9_.\-]{1,128}")


def request_id(headers: Mapping[str, str]) -> str:
    """The caller's or the platform's request id if it has only safe characters, else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Described:
    """An error as callers receive it."""

    status: int
    code: str
    message: str
    detail: tuple[Mapping[str, str], ...] = ()

    def as_object(self) -> dict[str, Any]:
        """The object under ``error`` in a body."""
        fields: dict[str, Any] = {"code": self.code, "message": self.message}
        return fields | {"detail": self.detail} if self.detail else fields


UNEXPECTED = Described(500, *INTERNAL_ERROR)
# Our texts for Serve's plain-text errors. Its 404 means that it does not have the route yet: every
# Serve config of ours has an application at "/".
PLATFORM_ERRORS: Mapping[int, Described] = {
    404: Described(503, *UNAVAILABLE),
    408: Described(408, *REQUEST_TIMEOUT),
    429: Described(429, "overloaded", str(OverloadedError(RETRY_AFTER_S))),
    503: Described(503, *UNAVAILABLE),
}


def describe(error: RequestError | ValidationError) -> Described:
    """Status, code and message for an invalid request."""
    if isinstance(error, ValidationError):
        return _describe_validation(error)
    if isinstance(error, InvalidRequestError):
        return _invalid([{"path": error.path, "message": error.message}])
    return Described(*STATUS_AND_CODE[type(error)], str(error))


def of_part(error: ValidationError, *path: int | str, first: int | None = None) -> RequestError:
    """The first error of a part of a body that is at ``path`` and was parsed by itself.

    ``first`` is the index of the first value of a part of a list.
    """
    found = error.errors(include_url=False, include_input=False)[0]
    if found["type"] == "json_invalid":
        return InvalidJsonError()
    place = found["loc"] if first is None else (first + int(found["loc"][0]),)
    return InvalidRequestError(field_path((*path, *place)), _message_of(found))


def on_request_error(request: Request, exc: Exception) -> Response:
    """The answer to an invalid request: what must be changed."""
    assert isinstance(exc, RequestError | ValidationError)
    return _respond(request, describe(exc), headers_of(exc))


def headers_of(error: Exception) -> dict[str, str]:
    """Headers of a refusal: Retry-After in whole seconds, and those of access control."""
    wait_s = getattr(error, "retry_after_s", None)
    waiting = {} if wait_s is None else {"retry-after": str(math.ceil(wait_s))}
    return waiting | access_headers(error)


def on_http_error(request: Request, exc: Exception) -> Response:
    """The answer to a wrong path or method, as JSON."""
    assert isinstance(exc, HTTPException)
    code, message = HTTP_CODES.get(exc.status_code, ("http_error", "The request cannot be served."))
    return _respond(request, Described(exc.status_code, code, message), exc.headers)


def on_disconnect(_: Request, __: Exception) -> Response:
    """The end of a request whose caller disconnected while sending it; no caller receives it."""
    return Response(status_code=499)


def on_unexpected_error(request: Request, exc: Exception) -> Response:
    """The answer to a fault of the service: logged with its stack trace, answered without it."""
    logger.error("unexpected error", exc_info=exc)
    return _respond(request, UNEXPECTED)


def _describe_validation(error: ValidationError) -> Described:
    """The errors of pydantic: path and message, never the value."""
    if error.error_count() > MAX_LISTED:  # pydantic builds all of them or none
        many = f"There are {error.error_count()} mistakes; see /docs for what a body holds."
        return _invalid([{"path": "", "message": many}])
    errors = error.errors(include_url=False, include_input=False)
    if errors[0]["type"] == "json_invalid":
        place = _PLACE.search(errors[0]["msg"])
        at = f" at line {place[1]}, column {place[2]}" if place else ""
        return Described(*STATUS_AND_CODE[InvalidJsonError], f"The body is not valid JSON{at}.")
    return _invalid(
        [{"path": field_path(e["loc"]), "message": _message_of(e)} for e in errors[:MAX_DETAILS]]
    )


def _invalid(detail: Sequence[Mapping[str, str]]) -> Described:
    first = InvalidRequestError(detail[0]["path"], detail[0]["message"])
    return Described(*STATUS_AND_CODE[InvalidRequestError], str(first), tuple(detail))


_PLACE = re.compile(r"at line (\d+) column (\d+)\Z")
_NO_FIELD = "There is no such field; remove it."
# By pydantic's type of error; the names in braces are those of its context.
_OWN_WORDS = {
    "missing": "This field is needed.",
    "list_type": "Send a list.",
    "dict_type": "Send an object.",
    "model_type": "Send an object.",
    "too_short": "Send {min_length} or more.",
    "too_long": "Send at most {max_length}.",
    "string_type": "Send a text.",
    "string_too_short": "Send at least {min_length} characters.",
    "string_too_long": "Send at most {max_length} characters.",
    "float_type": "Send a number.",
    "int_type": "Send a whole number.",
    "bool_type": "Send true or false.",
    "greater_than": "Send more than {gt}.",
    "greater_than_equal": "Send {ge} or more.",
    "less_than": "Send less than {lt}.",
    "less_than_equal": "Send {le} or less.",
    "datetime_type": "Send a time, for example 2026-02-20T12:00:00Z.",
    "datetime_parsing": "Send a time, for example 2026-02-20T12:00:00Z.",
    "datetime_from_date_parsing": "Send a time, for example 2026-02-20T12:00:00Z.",
    "timezone_aware": "Send a time with its zone, for example 2026-02-20T12:00:00Z.",
    "finite_number": "Send a finite number.",
    "string_pattern_mismatch": "Write it as <n>m, <n>h or <n>d, n from 1 to 9999, for example 5m.",
    "literal_error": "Only tollama is a provider.",
}


def _message_of(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        near = get_close_matches(str(error["loc"][-1])[:64], FIELD_NAMES, 1)
        return f"There is no such field; did you mean {near[0]}?" if near else _NO_FIELD
    words = _OWN_WORDS.get(error["type"])
    return words.format(**error.get("ctx", {})) if words else error["msg"]


def _respond(
    request: Request, described: Described, headers: Mapping[str, str] | None = None
) -> Response:
    error = described.as_object() | {"request_id": request_id(request.headers)}
    body = orjson.dumps({"error": error})
    return Response(body, described.status, headers, media_type="application/json")
