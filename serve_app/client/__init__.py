"""A Python client of the service: typed, sync or async, without Ray.

    from serve_app.client import Client

    with Client("http://127.0.0.1:8000") as client:
        forecast = client.forecast("m-1", [0.41, 0.42, 0.40, ...], as_of="2026-02-20T12:00:00Z")
        print(forecast.path(0.9), forecast.meta.fallback_reason)

docs/client.md has the rest.
"""

from serve_app.client.answers import Forecast, LastStep, Meta, Model
from serve_app.client.asynchronous import AsyncClient
from serve_app.client.body import Options, request_body
from serve_app.client.connection import BreakerAction
from serve_app.client.errors import (
    ClientError,
    RequestRefusedError,
    ServiceError,
    ServiceFailedError,
    UnreachableError,
)
from serve_app.client.retries import Retries
from serve_app.client.sync import Client

__all__ = [
    "AsyncClient",
    "BreakerAction",
    "Client",
    "ClientError",
    "Forecast",
    "LastStep",
    "Meta",
    "Model",
    "Options",
    "RequestRefusedError",
    "Retries",
    "ServiceError",
    "ServiceFailedError",
    "UnreachableError",
    "request_body",
]
