"""The embedded runtime's HTTP application: tollama's routes over any model. Does not use Ray.

The model runs in a single worker thread, a few series at a time: the event loop stays free for
health checks, concurrent calls alternate, and an abandoned call stops after its current series.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import numpy as np
import orjson
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runner.types import FloatArray
from serve_app.embedded.model import ModelFailedError, SeriesError
from serve_app.embedded.wire import ForecastWire, answer_of, refusal_of, series_refusal

MAX_BODY_BYTES = 10 * 1024 * 1024  # tollama's default
VERSION = "0.1.0"  # of the tollama whose contract this implements


class Model(Protocol):
    """The part of ``EmbeddedModel`` that the application uses; tests have a fake."""

    name: str
    best_batch: int

    def forecast(
        self, series: Sequence[FloatArray], horizon_steps: int, levels: Sequence[float]
    ) -> FloatArray:
        """``(B, H, Q)`` for B series."""
        ...


def build_runtime_app(model: Model, clock: Callable[[], float]) -> Starlette:
    """An application that answers like a tollama daemon with one model installed.

    ``clock`` gives seconds, for the timings in the answer.
    """
    endpoint, name = _Forecasts(model, clock), model.name
    details = {"format": "embedded", "family": "fracast"}
    tags = {"models": [{"name": name, "model": name, "size": 0, "details": details}]}
    app = Starlette(
        routes=[
            Route("/v1/forecast", endpoint.forecast, methods=["POST"]),
            Route("/v1/health", _always({"status": "ok"})),
            Route("/health/ready", _always({"status": "ok", "healthy": True})),
            Route("/api/version", _always({"version": VERSION})),
            Route("/api/tags", _always(tags)),
        ],
        exception_handlers={
            HTTPException: _refuse,
            _RefusedError: _refuse,
            ModelFailedError: _fail,
        },
    )
    app.router.redirect_slashes = False  # a redirect would contain http and the caller's Host
    return app


class _RefusedError(Exception):
    """A refused request; ``detail`` is the same as tollama's."""

    def __init__(self, status: int, detail: str | list[dict[str, Any]]) -> None:
        super().__init__(status, detail)
        self.status_code, self.detail = status, detail


class _Forecasts:
    def __init__(self, model: Model, clock: Callable[[], float]) -> None:
        self._model = model
        self._clock = clock
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-model")

    async def forecast(self, request: Request) -> Response:
        try:
            wire = ForecastWire.model_validate_json(await _read_body(request))
        except ValidationError as exc:
            raise _RefusedError(400, refusal_of(exc)) from exc
        if wire.model != self._model.name:
            raise _RefusedError(404, f"model {wire.model!r} is not installed")
        began = self._clock()
        rows = await self._compute(wire)
        return _json(answer_of(wire, rows, (self._clock() - began) * 1e3))

    async def _compute(self, wire: ForecastWire) -> FloatArray:
        """``(B, 1 + Q, H)``: the median, then the requested quantile levels."""
        levels = (0.5, *wire.quantiles)
        series = [np.array(s.target, dtype=np.float64) for s in wire.series]
        parts = [paths async for paths in self._turns(series, wire.horizon, levels)]
        return np.ascontiguousarray(np.concatenate(parts).transpose(0, 2, 1))

    async def _turns(
        self, series: Sequence[FloatArray], horizon: int, levels: Sequence[float]
    ) -> AsyncIterator[FloatArray]:
        size = self._model.best_batch
        for first in range(0, len(series), size):
            work = partial(self._model.forecast, series[first : first + size], horizon, levels)
            try:
                yield await asyncio.get_running_loop().run_in_executor(self._worker, work)
            except SeriesError as exc:
                detail = series_refusal(first + exc.index, exc.message)
                raise _RefusedError(400, detail) from exc


async def _read_body(request: Request) -> bytes:
    """The body, counted while it is received: Content-Length may be missing or wrong."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise _RefusedError(413, "request body too large: exceeds 10 MB limit")
        chunks.append(chunk)
    return b"".join(chunks)


def _always(body: dict[str, Any]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return _json(body)

    return answer


async def _refuse(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException | _RefusedError)  # by the table of handlers
    return _json({"detail": exc.detail}, exc.status_code)


async def _fail(_: Request, exc: Exception) -> Response:
    detail = {"code": "FORECAST_ERROR", "message": f"the model failed with {exc}"}
    return _json({"detail": detail}, 502)


def _json(body: dict[str, Any], status: int = 200) -> Response:
    content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status, media_type="application/json")
