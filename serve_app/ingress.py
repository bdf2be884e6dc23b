"""The HTTP surface: routes and handlers. No Ray here, so all of it runs bare in tests."""

from collections.abc import Callable
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runner.errors import RequestError
from serve_app import errors
from serve_app.access import Access
from serve_app.admin import BREAKER_PATH, BreakerEndpoint
from serve_app.batch_endpoint import BatchEndpoint
from serve_app.console.pages import page_routes
from serve_app.forecast_endpoint import ForecastEndpoint
from serve_app.openapi import build_document
from serve_app.schemas_out import models_answer
from serve_app.service import Service
from serve_app.status import Fleet, StatusEndpoint


def build_app(service: Service, fleet: Fleet) -> Starlette:
    """The ASGI app around a service; runs no lifespan."""
    served = service.registry.served(service.config.environment)
    models = models_answer(served).model_dump_json().encode()
    document = orjson.dumps(build_document(service.config))
    forecast = ForecastEndpoint(service)
    batch = BatchEndpoint(service)
    status = StatusEndpoint(service, fleet, lambda: forecast.under_way)
    access = Access(service.config.security, service.clock)

    async def forecast_batch(request: Request) -> Response:
        return await batch(request)

    async def list_models(_: Request) -> Response:
        return Response(models, media_type="application/json")

    async def show_status(request: Request) -> Response:
        return await status(request)

    async def describe(_: Request) -> Response:
        return Response(document, media_type="application/json")

    async def live(_: Request) -> Response:
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def ready(_: Request) -> Response:
        body = orjson.dumps({"status": "ready", "breakers": service.answers.breaker_states()})
        return Response(body, media_type="application/json")

    def route(path: str, endpoint: Callable[..., Any], method: str = "GET") -> Route:
        return Route(path, endpoint, methods=[method], middleware=access.gate(path))

    return Starlette(
        routes=[
            route("/tsfm/forecast", forecast, "POST"),
            route("/tsfm/forecast/batch", forecast_batch, "POST"),
            route("/tsfm/models", list_models),
            route("/tsfm/status", show_status),
            route(BREAKER_PATH, BreakerEndpoint(service).order, "POST"),
            route("/openapi.json", describe),
            route("/healthz", live),
            route("/readyz", ready),
            *page_routes(access.gate),
        ],
        exception_handlers={
            RequestError: errors.on_request_error,
            ValidationError: errors.on_request_error,
            HTTPException: errors.on_http_error,
            Exception: errors.on_unexpected_error,
        },
    )
