"""Middleware around Serve: drops request headers that Serve obeys, makes JSON of Serve's errors.

Serve puts the middleware named by ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` around its own
handling of a request, in ingress replicas and in its Python proxy: the only place where our code
runs before Serve reads the headers.
"""

from collections.abc import Sequence
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.http.errors import HTTP_CODES, PLATFORM_ERRORS, REQUEST_ID, UNEXPECTED, Described
from serve_app.http.errors import request_id as id_for
from serve_app.platform_errors import RETRY_AFTER_S

RawHeader = tuple[bytes, bytes]
HEALTH_PATH, ROUTES_PATH = "/-/healthz", "/-/routes"
# Serve takes time-outs, the handling of disconnects and the choice of a replica from these. Callers
# may not set any of them. In some names Serve treats - and _ as equal.
OBEYED_BY_SERVE = frozenset(
    {
        b"x_request_timeout_seconds",
        b"x_request_disconnect_disabled",
        b"x_session_id",
        b"serve_multiplexed_model_id",
    }
)
ROUTER_PREFIX = b"x_serve_router_"


def middlewares() -> list[Middleware]:
    """The middleware list that Serve loads."""
    return [Middleware(BeforeServe)]


class BeforeServe:
    """Drops headers that Serve obeys or cannot decode; makes JSON of Serve's plain errors."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if "headers" not in scope:  # no request
            await self._app(scope, receive, send)
            return
        scope["headers"] = [header for header in scope["headers"] if _may_pass(*header)]
        answers = _JsonErrors(scope, send)
        if scope["path"] == ROUTES_PATH:
            await answers.refuse(Described(404, *HTTP_CODES[404]))
        elif scope["path"] == HEALTH_PATH:  # HAProxy checks the plain text
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, answers.send)


class _JsonErrors:
    """Passes an answer on, but replaces a plain-text one with an error status.

    The service's own errors are JSON, so a plain-text error is Serve's.
    """

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._replaced = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_plain_error(message):
            self._replaced = True
            described = PLATFORM_ERRORS.get(message["status"], UNEXPECTED)
            await self.refuse(described, message["headers"])
        elif not self._replaced:
            await self._send(message)

    async def refuse(self, described: Described, headers: Sequence[RawHeader] = ()) -> None:
        """Answers with our JSON error, keeping Serve's Retry-After and X-Request-ID headers."""
        request_id = id_for(Headers(scope=self._scope))
        body = orjson.dumps({"error": described.as_object() | {"request_id": request_id}})
        kept = {name: value for name, value in headers if name in (b"retry-after", b"x-request-id")}
        fitting: dict[bytes, bytes] = {
            b"content-type": b"application/json",
            b"content-length": str(len(body)).encode(),
        }
        if described.status in (429, 503):
            fitting[b"retry-after"] = str(RETRY_AFTER_S).encode()
        start: dict[str, Any] = {"type": "http.response.start", "status": described.status}
        await self._send(start | {"headers": [*(fitting | kept).items()]})
        await self._send({"type": "http.response.body", "body": body})


def _may_pass(name: bytes, value: bytes) -> bool:
    plain = name.lower().replace(b"-", b"_")
    if plain == b"x_request_id":
        return REQUEST_ID.fullmatch(value.decode("latin-1")) is not None
    if plain in (b"traceparent", b"tracestate"):
        return value.isascii()
    return plain not in OBEYED_BY_SERVE and not plain.startswith(ROUTER_PREFIX)


def _is_plain_error(start: Message) -> bool:
    types = (value for name, value in start["headers"] if name.lower() == b"content-type")
    return start["status"] >= 400 and next(types, b"").startswith(b"text/plain")
