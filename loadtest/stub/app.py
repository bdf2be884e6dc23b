"""The stand-in: its state, the routes of tollama that are called, and three that control it."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from time import perf_counter
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from loadtest.stub import contract
from loadtest.stub.faults import (
    Fault,
    FaultPlan,
    Kind,
    Reply,
    deliver,
    parse_fault,
    refuse_by_status,
    refuse_poison,
    spoil,
)
from loadtest.stub.forecast import answer, family_of

KEPT_CALLS = 10_000


@dataclass(slots=True)
class Settings:
    """Models and inference times of the stand-in; can be changed while it runs."""

    ms_per_call: float = 0.0
    ms_per_series: float = 0.0
    models: tuple[str, ...] = ("mock",)
    api_key: str | None = None
    series_limits: Mapping[str, int] = field(default_factory=dict)

    def inference_s(self, series_count: int) -> float:
        return (self.ms_per_call + series_count * self.ms_per_series) / 1000


@dataclass(slots=True)
class Records:
    """Requests that the stand-in received, for tests and drills."""

    calls: int = 0
    forecasts: int = 0
    busy_ms: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    series_per_call: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT_CALLS))
    last_request: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return plain | {"series_per_call": list(self.series_per_call)}


class Runtime:
    """One lock per family is held for a whole inference, delay included, as the daemon does."""

    def __init__(self, settings: Settings, fault: Fault | None = None, seed: int = 0) -> None:
        self.settings = settings
        self.records = Records()
        self._seed = seed
        self.plan = FaultPlan(fault, seed)
        self._locks: dict[str, asyncio.Lock] = {}
        self._released = asyncio.Event()

    def change_fault(self, fault: Fault | None) -> None:
        """Puts a fault in force, or none; calls that hang are let go."""
        self._released.set()
        self._released = asyncio.Event()
        self.plan = FaultPlan(fault, self._seed)

    def lock_for(self, model: str) -> asyncio.Lock:
        return self._locks.setdefault(family_of(model), asyncio.Lock())

    async def hold(self, fault: Fault | None, until: float) -> None:
        """Waits for the inference time, plus the delay of the fault."""
        lifted = fault is not self.plan.fault  # while it waited for the lock
        if fault is not None and fault.kind is Kind.HANG and not lifted:
            await _wait_at_most(self._released, fault.number(3600))
        if fault is not None and fault.kind is Kind.LATENCY:
            until += fault.number(1000) / 1000
        if fault is not None and fault.kind is Kind.JITTER:
            until += self.plan.jitter_s(fault)
        if (left := until - perf_counter()) > 0:
            await asyncio.sleep(left)

    def control(self, order: Any) -> None:
        """Applies the body of ``POST /_control``.

        Raises:
            ValueError: a field, kind or value is not known.
        """
        given = Order.model_validate(order)
        for name in given.model_fields_set & _SETTINGS:
            setattr(self.settings, name, getattr(given, name))
        if "fault" in given.model_fields_set:
            self.change_fault(given.as_fault())


class Order(BaseModel):
    """The body of ``POST /_control``; only the fields that are given change anything."""

    model_config = ConfigDict(extra="forbid")

    ms_per_call: float = 0.0
    ms_per_series: float = 0.0
    models: tuple[str, ...] = ()
    api_key: str | None = None
    fault: str | None = None
    arg: Any = None
    share: float = 1.0
    count: int | None = None
    items: int | None = None

    def as_fault(self) -> Fault | None:
        if self.fault is None:
            return None
        kind, arg = parse_fault(self.fault)
        return Fault(
            kind, arg if self.arg is None else str(self.arg), self.share, self.count, self.items
        )


_SETTINGS = {"ms_per_call", "ms_per_series", "models", "api_key"}


async def _wait_at_most(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


def build_app(settings: Settings, fault: Fault | None = None, seed: int = 0) -> ASGIApp:
    """The stand-in as an ASGI app; faults of the wire need a real server around it."""
    runtime = Runtime(settings, fault, seed)

    async def health(_: Request) -> Response:
        return _json({"status": "ok"})

    async def tags(_: Request) -> Response:
        return _json({"models": [_tag(model) for model in settings.models if model != "*"]})

    async def stats(_: Request) -> Response:
        return _json({**runtime.records.as_json(), "fault": runtime.plan.fault})

    async def control(request: Request) -> Response:
        try:
            runtime.control(orjson.loads(await request.body()))
        except ValueError as exc:
            return _json({"error": str(exc)}, 400)
        return _json({"fault": runtime.plan.fault})

    async def reset(_: Request) -> Response:
        runtime.change_fault(None)
        runtime.records = Records()
        return _json({})

    routes = [
        Route("/v1/forecast", ForecastRoute(runtime), methods=["POST"]),
        Route("/v1/health", health, methods=["GET"]),
        Route("/api/tags", tags, methods=["GET"]),
        Route("/_stats", stats, methods=["GET"]),
        Route("/_control", control, methods=["POST"]),
        Route("/_reset", reset, methods=["POST"]),
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
        if isinstance(request, dict):
            records.last_request = {"headers": dict(headers), "fields": sorted(request)}
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


async def _http_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    response = _json(contract.error_body(exc.status_code, exc.detail), exc.status_code)
    response.headers.update(exc.headers or {})
    return response


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
