"""The routes of the stand-in: those of tollama that are called, and three to control it."""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from loadtest.stub import contract
from loadtest.stub.delivery import Reply, deliver
from loadtest.stub.faults import Fault, Kind, refuse_by_status, refuse_poison, spoil
from loadtest.stub.forecast import answer, family_of
from loadtest.stub.runtime import Records, Runtime, Settings

_POISONS = (Kind.POISONED, Kind.POISONED_BLIND)


def build_app(settings: Settings, fault: Fault | None = None, seed: int = 0) -> ASGIApp:
    """The stand-in as an ASGI app; faults of the wire need a real server around it."""
    runtime = Runtime(settings, fault, seed)
    routes = [
        Route("/v1/forecast", ForecastRoute(runtime), methods=["POST"]),
        Route("/v1/health", _get(lambda: {"status": "ok"}), methods=["GET"]),
        Route("/api/tags", _get(lambda: _tags(settings)), methods=["GET"]),
        Route("/_stats", _get(lambda: _stats(runtime)), methods=["GET"]),
        Route("/_control", _control(runtime), methods=["POST"]),
        Route("/_reset", _reset(runtime), methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _http_error})


class ForecastRoute:
    """``POST /v1/forecast``."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._inferences: set[asyncio.Task[Reply]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        records, headers = self._runtime.records, Headers(scope=scope)
        fault = None if b"followed=1" in scope["query_string"] else self._runtime.plan.strike()
        records.calls += 1
        reply = Reply(500, b"")
        try:
            reply = await self._reply(headers, receive, fault)
            await deliver(reply, fault, scope, send)
        finally:
            records.statuses[str(reply.status)] += 1

    async def _reply(self, headers: Headers, receive: Receive, fault: Fault | None) -> Reply:
        try:
            if fault is not None:
                self._runtime.records.faults[str(fault.kind)] += 1
                refuse_by_status(fault)
            contract.require_size(headers.get("content-length"))
            body = await _read(receive)
            # a task of its own, so that a caller that disconnects does not stop the inference
            task = asyncio.create_task(self._infer(body, headers, fault, perf_counter()))
            self._inferences.add(task)
            task.add_done_callback(self._inferences.discard)
            return await asyncio.shield(task)
        except contract.RefusedError as exc:
            body = orjson.dumps(contract.error_body(exc.status, exc.detail))
            return Reply(exc.status, body, exc.headers)

    async def _infer(
        self, body: bytes, headers: Headers, fault: Fault | None, started: float
    ) -> Reply:
        request = self._accepted(body, headers)
        series, settings = request["series"], self._runtime.settings
        if fault is not None and fault.kind is Kind.POISONED:
            refuse_poison(fault, series)
        parsed = perf_counter()
        async with self._runtime.lock_for(request["model"]):
            locked = perf_counter()
            cost_s = settings.inference_s(len(series))
            until = locked - (parsed - started) + cost_s
            contract.require_series_within(request["model"], len(series), settings.series_limits)
            reply = self._encoded(request, fault, cost_s)
            await self._runtime.hold(fault, until)
            self._runtime.records.busy_ms += (perf_counter() - locked) * 1000
        if fault is not None and fault.kind is Kind.POISONED_BLIND:
            refuse_poison(fault, series)
        return reply

    def _accepted(self, body: bytes, headers: Headers) -> dict[str, Any]:
        settings, records = self._runtime.settings, self._runtime.records
        request = contract.parse(body, headers.get("content-type", ""))
        contract.require_key(headers.get("authorization"), settings.api_key)
        records.seen(request, headers)
        contract.check(request)
        contract.require_no_files(request)
        contract.require_installed(request["model"], settings.models)
        records.series_per_call.append(len(request["series"]))
        return dict(request)

    def _encoded(self, request: dict[str, Any], fault: Fault | None, cost_s: float) -> Reply:
        body = answer(request, inference_ms=cost_s * 1000, total_ms=cost_s * 1000)
        self._runtime.records.forecasts += len(body["forecasts"])
        return Reply(200, orjson.dumps(spoil(fault, body) if fault else body))


async def _read(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def _get(value: Callable[[], Any]) -> Callable[[Request], Awaitable[Response]]:
    async def respond(_request: Request) -> Response:
        return _json(value())

    return respond


def _control(runtime: Runtime) -> Callable[[Request], Awaitable[Response]]:
    async def control(request: Request) -> Response:
        try:
            runtime.control(orjson.loads(await request.body()))
        except (ValueError, TypeError, AttributeError) as exc:
            return _json({"error": str(exc)}, 400)
        return _json({"fault": runtime.plan.fault})

    return control


def _reset(runtime: Runtime) -> Callable[[Request], Awaitable[Response]]:
    async def reset(_request: Request) -> Response:
        runtime.change_fault(None)
        runtime.records = Records()
        return _json({})

    return reset


async def _http_error(_request: Request, exc: Exception) -> Response:
    status, headers = 500, None
    if isinstance(exc, HTTPException):
        status, headers = exc.status_code, exc.headers
    text = {404: "Not Found", 405: "Method Not Allowed"}.get(status, "Internal Server Error")
    response = _json(contract.error_body(status, text), status)
    response.headers.update(headers or {})
    return response


def _stats(runtime: Runtime) -> dict[str, Any]:
    return {**runtime.records.as_json(), "fault": runtime.plan.fault}


def _tags(settings: Settings) -> dict[str, Any]:
    return {"models": [_tag(model) for model in settings.models if model != "*"]}


def _tag(model: str) -> dict[str, Any]:
    family = family_of(model)
    details = {"format": "tollama", "family": family, "families": [family]}
    return {
        "name": model,
        "model": model,
        "modified_at": "2026-04-30T00:00:00.000000Z",
        "size": 0,
        "digest": "local",
        "details": {**details, "parameter_size": "", "quantization_level": ""},
    }
