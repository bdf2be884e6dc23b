"""How tollama takes a call to ``POST /v1/forecast`` and how it refuses one, without a server.

Statuses, texts and hints were observed on a tollama 0.1.0 daemon.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

import orjson

from loadtest.stub.schema import complaint, complaints_about

MAX_BODY_BYTES = 10 * 1024 * 1024
_HINTS = {
    400: "Fix request payload or parameters and retry.",
    503: "Retry after daemon dependencies are available.",
}
_NOT_INSTALLED_HINT = (
    "Run `tollama pull <model>` to install. Use `tollama info --json` to inspect available models."
)


class RefusedError(Exception):
    """The runtime says no: a status, a ``detail`` for the body, and extra headers."""

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
    """Refuses by the length the caller announces, before anything is read."""
    length = int(content_length) if content_length and content_length.isdigit() else 0
    if length > MAX_BODY_BYTES:
        raise RefusedError(413, f"request body too large: {length} bytes exceeds 10 MB limit")


def require_key(authorization: str | None, api_key: str | None) -> None:
    """401 unless the caller shows the key; nothing to show when none is configured."""
    if api_key is None:
        return
    scheme, _, token = (authorization or "").partition(" ")
    if scheme != "Bearer" or not token.strip():
        reason = "missing bearer token" if scheme in ("", "Bearer") else "scheme must be Bearer"
        raise RefusedError(401, reason, {"WWW-Authenticate": "Bearer"})
    if token.strip() != api_key:
        raise RefusedError(401, "invalid api key", {"WWW-Authenticate": "Bearer"})


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
    """Raises 400 with every complaint, in the order the real runtime gives them."""
    if complaints := complaints_about(payload):
        raise RefusedError(400, complaints)


def require_installed(model: str, installed: Collection[str]) -> None:
    """404 for a model that is not there; ``*`` among the installed ones stands for any."""
    if model not in installed and "*" not in installed:
        raise RefusedError(404, f"model {model!r} is not installed")


def require_no_files(request: Mapping[str, Any]) -> None:
    """The real one would read the files these fields name; there is none here to find."""
    for name in ("modelfile", "data_url"):
        if request.get(name) is not None:
            raise RefusedError(404, f"{name} {request[name]!r} not found")


def require_series_within(model: str, count: int, limits: Mapping[str, int]) -> None:
    """Some models take few series per call; their runner says so, so no index is named."""
    limit = limits.get(model)
    if limit is not None and count > limit:
        message = f"{model} currently supports at most {limit} input series per request"
        raise RefusedError(400, {"code": "BAD_REQUEST", "message": message})


def _parse_as_python_does(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8", "replace"))
    except json.JSONDecodeError as exc:
        wrong = complaint("json_invalid", ("body", exc.pos), "JSON decode error", {}, error=exc.msg)
        raise RefusedError(400, [wrong]) from exc
