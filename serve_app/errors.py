"""One table from error class to HTTP status and stable code, and the handlers that use it.

Callers see our own words only: never a stack trace, another system's text, or their own input.
"""

import logging
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from runner.errors import (
    BodyTimeoutError,
    BodyTooLargeError,
    ConfigError,
    InvalidRequestError,
    ModelNotAllowedError,
    RequestError,
    TsfmError,
    UnknownModelError,
)
from serve_app.schemas import field_path

logger = logging.getLogger(__name__)

STATUS_AND_CODE: Mapping[type[TsfmError], tuple[int, str]] = {
    InvalidRequestError: (422, "invalid_request"),
    BodyTooLargeError: (413, "body_too_large"),
    BodyTimeoutError: (408, "body_timeout"),
    UnknownModelError: (404, "unknown_model"),
    ModelNotAllowedError: (403, "model_not_allowed"),
    RequestError: (400, "bad_request"),
    ConfigError: (500, "internal_error"),
}
HTTP_CODES: Mapping[int, tuple[str, str]] = {
    404: ("not_found", "There is nothing here; POST /tsfm/forecast is where forecasts are made."),
    405: ("method_not_allowed", "This path does not take that method; see the Allow header."),
}
MAX_DETAILS = 10
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.\-]{1,128}")


def request_id(headers: Mapping[str, str]) -> str:
    """The caller's or the platform's request id when it is harmless, else a fresh one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def error_body(
    code: str, message: str, detail: Sequence[Mapping[str, str]] | None, request: str
) -> bytes:
    """The envelope of every error, encoded."""
    error: dict[str, Any] = {"code": code, "message": message}
    if detail:
        error["detail"] = list(detail)
    return orjson.dumps({"error": error | {"request_id": request}})


def on_request_error(request: Request, exc: Exception) -> Response:
    """The caller must change something: say what."""
    assert isinstance(exc, RequestError)
    status, code = STATUS_AND_CODE[type(exc)]
    if isinstance(exc, InvalidRequestError):
        detail = [{"path": exc.path, "message": exc.message}]
        return _respond(request, status, code, f"{exc.path}: {exc.message}", detail)
    return _respond(request, status, code, str(exc))


def on_validation_error(request: Request, exc: Exception) -> Response:
    """Complaints of pydantic: where and what, never the value."""
    assert isinstance(exc, ValidationError)
    errors = exc.errors(include_url=False, include_context=False, include_input=False)
    if errors[0]["type"] == "json_invalid":
        return _respond(request, 400, "invalid_json", "The body is not valid JSON.")
    detail = [
        {"path": field_path(e["loc"]), "message": _words(e["type"], e["msg"])}
        for e in errors[:MAX_DETAILS]
    ]
    first = detail[0]
    return _respond(request, 422, "invalid_request", f"{first['path']}: {first['message']}", detail)


def on_http_error(request: Request, exc: Exception) -> Response:
    """Wrong path or method, in JSON as well."""
    assert isinstance(exc, HTTPException)
    code, message = HTTP_CODES.get(exc.status_code, ("http_error", "The request cannot be served."))
    return _respond(request, exc.status_code, code, message, headers=exc.headers)


def on_unexpected_error(request: Request, exc: Exception) -> Response:
    """A fault of ours: logged with its trace, answered without it."""
    logger.error("unexpected error", exc_info=exc)
    message = "Something failed on our side; retry, and quote the request id if it happens again."
    return _respond(request, 500, "internal_error", message)


def _words(kind: str, message: str) -> str:
    """The sentence of pydantic, but for the kinds that could quote or puzzle."""
    return _OWN_WORDS.get(kind, message)


_OWN_WORDS = {
    "extra_forbidden": "There is no such field; remove it.",
    "finite_number": "Send a finite number.",
    "string_pattern_mismatch": "Write it as <n>m, <n>h or <n>d, for example 5m.",
    "literal_error": "Only tollama is a provider.",
}


def _respond(
    request: Request,
    status: int,
    code: str,
    message: str,
    detail: Sequence[Mapping[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    body = error_body(code, message, detail, request_id(request.headers))
    return Response(body, status, headers, media_type="application/json")
