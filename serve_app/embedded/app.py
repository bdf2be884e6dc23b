"""The embedded runtime's HTTP application: tollama's routes over any model. Does not use Ray.

The rules for requests are tollama's, so that both refuse the same ones. Fields that make the real
daemon read files or change models (``data_url``, ``modelfile``, ``ingest``) do not exist here.

The model runs in a single worker thread, a few series at a time: the event loop stays free for
health checks, concurrent calls alternate, and an abandoned call stops after its current series.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from resource import RUSAGE_SELF, getrusage
from typing import Annotated, Any, Self

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runner.types import FloatArray
from serve_app.embedded.model import EmbeddedModel, ModelFailedError, SeriesError

MAX_BODY_BYTES = 10 * 1024 * 1024  # tollama's default
VERSION = "0.1.0"  # of the tollama whose contract this implements

Text = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Level = Annotated[float, Field(gt=0, lt=1)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SeriesWire(_Wire):
    """One series; covariates are checked and then ignored: the model does not use them."""

    id: Text
    freq: Text = "auto"
    timestamps: Annotated[list[Text], Field(min_length=1)]
    target: Annotated[list[Number], Field(min_length=1)]
    past_covariates: dict[Text, list[Number]] | None = None
    future_covariates: dict[Text, list[Number]] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.target) != len(self.timestamps):
            raise ValueError("target length must match timestamps length")
        past = (self.past_covariates or {}).values()
        if any(len(values) != len(self.timestamps) for values in past):
            raise ValueError("past_covariates length must match timestamps length")
        return self


class ForecastWire(_Wire):
    """One call. ``options`` and ``timeout`` are accepted and ignored."""

    model: Text
    horizon: Annotated[int, Field(gt=0, le=10_000)]
    quantiles: list[Level] = []
    series: Annotated[list[SeriesWire], Field(min_length=1)]
    options: dict[Text, Any] = {}
    timeout: Annotated[float, Field(gt=0)] | None = None

    @field_validator("quantiles")
    @classmethod
    def _check_quantiles(cls, value: list[float]) -> list[float]:
        if value != sorted(set(value)):
            raise ValueError("quantiles must ascend and be unique")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        for series in self.series:
            past, future = series.past_covariates or {}, series.future_covariates or {}
            if any(len(values) != self.horizon for values in future.values()):
                raise ValueError("future_covariates length must match horizon")
            if future.keys() - past.keys():
                raise ValueError("future_covariates must also exist in past_covariates")
        return self


def build_runtime_app(model: EmbeddedModel, clock: Callable[[], float]) -> Starlette:
    """An application that answers like a tollama daemon with one model installed.

    ``clock`` gives seconds, for the timings in the answer.
    """
    details = {"format": "embedded", "family": "fracast"}
    tags = {"models": [{"name": model.name, "model": model.name, "size": 0, "details": details}]}
    app = Starlette(
        routes=[
            Route("/v1/forecast", _Forecasts(model, clock).forecast, methods=["POST"]),
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
    def __init__(self, model: EmbeddedModel, clock: Callable[[], float]) -> None:
        self._model = model
        self._clock = clock
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-model")

    async def forecast(self, request: Request) -> Response:
        try:
            wire = ForecastWire.model_validate_json(await _read_body(request))
        except ValidationError as exc:
            raise _RefusedError(400, _refusal_of(exc)) from exc
        if wire.model != self._model.name:
            raise _RefusedError(404, f"model {wire.model!r} is not installed")
        began = self._clock()
        rows = await self._compute(wire)
        return _json(_answer_of(wire, rows, (self._clock() - began) * 1e3))

    async def _compute(self, wire: ForecastWire) -> FloatArray:
        """``(B, 1 + Q, H)``: the median, then the requested quantile levels."""
        levels = (0.5, *wire.quantiles)
        series = [np.array(s.target, dtype=np.float64) for s in wire.series]
        loop, size, parts = asyncio.get_running_loop(), self._model.best_batch, []
        for first in range(0, len(series), size):
            some = series[first : first + size]
            work = partial(self._model.forecast, some, wire.horizon, levels)
            try:
                parts.append(await loop.run_in_executor(self._worker, work))
            except SeriesError as exc:
                loc = ["body", "series", first + exc.index, "target"]
                fault = {"type": "value_error", "loc": loc, "msg": f"Value error, {exc.message}"}
                raise _RefusedError(400, [fault]) from exc
        return np.ascontiguousarray(np.concatenate(parts).transpose(0, 2, 1))


def _refusal_of(exc: ValidationError) -> list[dict[str, Any]]:
    """The ``detail`` of a 400: each error with its path in the body, without the input."""
    faults = exc.errors(include_url=False, include_context=False, include_input=False)
    return [{**fault, "loc": ["body", *fault["loc"]]} for fault in faults]


def _answer_of(wire: ForecastWire, rows: FloatArray, inference_ms: float) -> dict[str, Any]:
    """The body of a 200; ``rows`` is ``(B, 1 + Q, H)``; the first row, the median, is the mean."""
    forecasts = [_forecast_of(s, wire.quantiles, rows[i]) for i, s in enumerate(wire.series)]
    peak_memory_mb = getrusage(RUSAGE_SELF).ru_maxrss / 1024  # Linux gives KiB
    return {
        "model": wire.model,
        "forecasts": forecasts,
        "metrics": None,
        "timing": {"model_load_ms": 0.0, "inference_ms": inference_ms, "total_ms": inference_ms},
        "usage": {
            "runner": "embedded",
            "series_count": len(forecasts),
            "horizon": wire.horizon,
            "device": "cpu",
            "peak_memory_mb": peak_memory_mb,
        },
        "warnings": [text for one in wire.series for text in _ignored(one, wire.model)] or None,
    }


def _ignored(series: SeriesWire, model: str) -> list[str]:
    """Says, in tollama's words, which covariates this model does not use."""
    return [
        f"ignoring unsupported covariate: model {model!r} (family=fracast) does not support "
        f"past-only numeric covariates; series={series.id!r} covariate={name!r}"
        for name in series.past_covariates or ()
    ]


def _forecast_of(series: SeriesWire, levels: Sequence[float], rows: FloatArray) -> dict[str, Any]:
    keyed = {f"{level:g}": row for level, row in zip(levels, rows[1:], strict=True)}
    return {
        "id": series.id,
        "freq": series.freq,
        "start_timestamp": series.timestamps[-1],
        "mean": rows[0],
        "quantiles": keyed or None,
    }


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
