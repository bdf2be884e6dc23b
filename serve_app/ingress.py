"""The HTTP surface: routes and handlers. No Ray here, so all of it runs bare in tests."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from runner.cache import AnswerCache, Entry
from runner.config import Config
from runner.errors import RequestError
from runner.forecaster import Forecaster
from runner.models import Registry, ServedModel
from runner.types import ModelAnswer
from serve_app import errors
from serve_app.admission import DEADLINE_HEADER, deadline_ms, read_body
from serve_app.encoding import Circumstances, EncodedAnswer, encode
from serve_app.schemas import ForecastWire, to_request

JSON_HEADERS = [(b"content-type", b"application/json")]


@dataclass(frozen=True, slots=True)
class _Kept:
    encoded: EncodedAnswer
    model: str
    answer: Entry[ModelAnswer]  # decides how long the bytes are good


class ForecastEndpoint:
    """``POST /tsfm/forecast``: bytes in, bytes out.

    Answers of the model are also kept by the digest of the request's bytes: the same bytes within
    the time to live are answered without being parsed.
    """

    def __init__(self, config: Config, forecaster: Forecaster, clock: Callable[[], float]) -> None:
        self._config = config
        self._forecaster = forecaster
        self._clock = clock
        self._kept: AnswerCache[_Kept] = AnswerCache(config.cache, lambda: 0.0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; raises RequestError and ValidationError for the handlers."""
        began = self._clock()
        limits = self._config.request
        try:
            body = await read_body(receive, limits.max_body_bytes, limits.body_timeout_s)
        except ClientDisconnect:
            return
        digest = hashlib.blake2b(body, digest_size=16).digest()
        answer = self._answer_kept(digest, began)
        if answer is None:
            header = Headers(scope=scope).get(DEADLINE_HEADER)
            answer = await self._answer(body, digest, header, began)
        await _send(send, answer)

    def _answer_kept(self, digest: bytes, began: float) -> bytes | None:
        entry = self._kept.fresh(digest, began)
        if entry is None or began >= entry.value.answer.fresh_until:
            return None
        kept = entry.value
        state = self._forecaster.breaker_state(kept.model)
        age_s = began - kept.answer.stored_at
        return kept.encoded.fill(Circumstances(state, self._elapsed_ms(began), age_s))

    async def _answer(self, body: bytes, digest: bytes, header: str | None, began: float) -> bytes:
        config = self._config
        wire = ForecastWire.model_validate_json(body)
        request = to_request(wire, config.request, config.transform)
        limit_ms = deadline_ms(config.request.deadline_ms, wire.deadline_ms, header)
        forecast = await self._forecaster.forecast(request, began + limit_ms / 1e3)
        encoded = encode(forecast)
        if forecast.kept is not None and not forecast.cache_stale:
            kept = _Kept(encoded, forecast.plan.key.model, forecast.kept)
            self._kept.put(digest, kept, self._clock())
        return encoded.fill(
            Circumstances(forecast.breaker_state, self._elapsed_ms(began), forecast.cache_age_s)
        )

    def _elapsed_ms(self, began: float) -> float:
        return (self._clock() - began) * 1e3


def build_app(
    config: Config, registry: Registry, forecaster: Forecaster, clock: Callable[[], float]
) -> Starlette:
    """The ASGI app around a forecaster; runs no lifespan."""
    models = orjson.dumps({"models": _models(registry.served(config.environment))})

    async def list_models(_: Request) -> Response:
        return Response(models, media_type="application/json")

    async def live(_: Request) -> Response:
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def ready(_: Request) -> Response:
        body = orjson.dumps({"status": "ready", "breakers": forecaster.breaker_states()})
        return Response(body, media_type="application/json")

    return Starlette(
        routes=[
            Route("/tsfm/forecast", ForecastEndpoint(config, forecaster, clock), methods=["POST"]),
            Route("/tsfm/models", list_models),
            Route("/healthz", live),
            Route("/readyz", ready),
        ],
        exception_handlers={
            RequestError: errors.on_request_error,
            ValidationError: errors.on_validation_error,
            HTTPException: errors.on_http_error,
            Exception: errors.on_unexpected_error,
        },
    )


async def _send(send: Send, body: bytes) -> None:
    headers = [*JSON_HEADERS, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _models(served: Sequence[ServedModel]) -> list[dict[str, object]]:
    return [
        {
            "name": model.entry.name,
            "runtime_name": model.entry.runtime_name,
            "aliases": model.aliases,
            "version": model.entry.version,
            "license": model.entry.license,
            "license_tag": model.entry.license_tag,
            "max_series_per_call": model.entry.max_series_per_call,
            "max_context": model.entry.max_context,
            "params": sorted(model.entry.allowed_params),
            "note": model.entry.note,
        }
        for model in served
    ]
