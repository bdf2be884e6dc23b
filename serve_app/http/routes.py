"""The Starlette application: routes and error handlers."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from runner.errors import OverloadedError, RequestError
from serve_app.auth.access import AccessControl
from serve_app.console.pages import page_routes
from serve_app.http import errors
from serve_app.http.batch_endpoint import BatchEndpoint
from serve_app.http.board_endpoint import BOARD_PATH, show_boards, take_board
from serve_app.http.breaker_endpoint import BREAKER_PATH, JSON, command_breaker
from serve_app.http.forecast_endpoint import ForecastEndpoint
from serve_app.http.openapi.document import build_document
from serve_app.http.outcomes_endpoint import take_outcomes
from serve_app.http.service import Dependencies
from serve_app.http.skill_endpoint import show_skill
from serve_app.http.status_endpoint import ClusterStatus, StatusEndpoint, update_gauges
from serve_app.telemetry.request_metrics import RequestMetrics
from serve_app.telemetry.request_metrics import Route as Asked
from serve_app.telemetry.tracing import traced_app

Handler = Callable[[Request, Exception], Response]
AsyncEndpoint = Callable[[Request], Awaitable[Response]]
AsyncHandler = Callable[[Request, Exception], Awaitable[Response]]
FORECAST_ROUTES = {
    "/tsfm/forecast": Asked.FORECAST,
    "/tsfm/check": Asked.FORECAST,
    "/tsfm/forecast/batch": Asked.BATCH,
    "/tsfm/check/batch": Asked.BATCH,
}
CHECKED_STEPS = 1  # of a check that does not say


def build_app(service: Dependencies, cluster: ClusterStatus) -> Starlette:
    """The ASGI app of a service; it has no lifespan events."""
    document = build_document(service.config)
    forecast, check = ForecastEndpoint(service), ForecastEndpoint(service, CHECKED_STEPS)
    status = StatusEndpoint(service, cluster)
    service.request_metrics.update_gauges_with(
        lambda recorder: update_gauges(service, forecast.kept_bodies + check.kept_bodies, recorder)
    )
    access = AccessControl(service.config.security, service.clock)

    def route(path: str, endpoint: Callable[..., Any], method: str = "GET") -> Route:
        middleware = access.gate(path)
        if service.tracer is not None and path in FORECAST_ROUTES:
            middleware.insert(0, Middleware(traced_app, service.tracer, path))
        return Route(path, endpoint, methods=[method], middleware=middleware)

    app = Starlette(
        routes=[
            route("/tsfm/forecast", forecast, "POST"),
            route("/tsfm/forecast/batch", BatchEndpoint(service), "POST"),
            route("/tsfm/check", check, "POST"),
            route("/tsfm/check/batch", BatchEndpoint(service, CHECKED_STEPS), "POST"),
            route("/tsfm/outcomes", partial(take_outcomes, service), "POST"),
            route("/tsfm/board", partial(show_boards, service)),
            route(BOARD_PATH, partial(take_board, service), "PUT"),
            route("/tsfm/models", status.models),
            route("/tsfm/skill", partial(show_skill, service)),
            route("/tsfm/status", status.show),
            route(BREAKER_PATH, partial(command_breaker, service), "POST"),
            route("/metrics", status.metrics),
            route("/openapi.json", constant(orjson.dumps(document))),
            route("/healthz", constant(b'{"status":"ok"}')),
            route("/readyz", status.ready),
            *page_routes(access.gate),
        ],
        exception_handlers={
            RequestError: counted(errors.on_request_error, service.request_metrics),
            ValidationError: counted(errors.on_request_error, service.request_metrics),
            HTTPException: errors.on_http_error,
            ClientDisconnect: errors.on_disconnect,
            Exception: counted(errors.on_unexpected_error, service.request_metrics),
        },
    )
    app.router.redirect_slashes = False  # a redirect names the caller's Host; not access-checked
    return app


def constant(body: bytes) -> AsyncEndpoint:
    """An endpoint whose answer is always the same JSON."""

    async def show(_: Request) -> Response:
        return Response(body, media_type=JSON)

    return show


def counted(handler: Handler, watch: RequestMetrics) -> AsyncHandler:
    """An error handler that also counts the error by its outcome on forecast routes.

    It is a coroutine: Starlette would run a plain function in a thread, which takes longer.
    """

    async def handle(request: Request, exc: Exception) -> Response:
        response = handler(request, exc)
        asked = FORECAST_ROUTES.get(request.scope["path"])
        if asked is not None:
            outcome = "failed" if response.status_code >= 500 else "refused"
            watch.refused(asked, "overloaded" if isinstance(exc, OverloadedError) else outcome)
        return response

    return handle
