"""The stand-in: its state, the routes of tollama that are called, and three that control it."""

import asyncio
import contextlib
import random
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from loadtest.stub import contract
from loadtest.stub.faults import (
    DELAYS,
    EARLY,
    POISONED,
    Fault,
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


@dataclass
class Records:
    """Requests that the stand-in received, for tests and drills."""

    calls: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    series_per_call: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT_CALLS))


class Runtime:
    """One lock per family is held for a whole inference, delay included, as the daemon does."""

    def __init__(self, settings: Settings, fault: Fault | None = None) -> None:
        self.settings = settings
        self.records = Records()
        self.loaded: set[str] = set()  # by the first forecast of each
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._released = asyncio.Event()
        self.change_fault(fault)

    def change_fault(self, fault: Fault | None) -> None:
        """Puts a fault in force, or none; calls that hang are let go."""
        self._released.set()
        self._released = asyncio.Event()
        self.fault = fault
        self._numbers = count()

    def strike(self) -> Fault | None:
        """The fault of the next call; flapping spares every second group of calls."""
        fault, number = self.fault, next(self._numbers)
        if fault and fault.kind == "flapping" and number // int(fault.number(5)) % 2:
            return None
        return fault

    def lock_for(self, model: str) -> asyncio.Lock:
        self.loaded.add(model)
        return self._locks[family_of(model)]

    async def hold(self, fault: Fault | None, until: float) -> None:
        """Waits for the inference time, plus the delay of the fault."""
        if fault is not None and fault.kind in DELAYS:
            until += await self._delay_s(fault, fault.number(DELAYS[fault.kind]))
        if (left := until - perf_counter()) > 0:
            await asyncio.sleep(left)

    async def _delay_s(self, fault: Fault, arg: float) -> float:
        if fault.kind == "jitter":
            return random.uniform(0, arg / 1000)
        if fault.kind == "latency":
            return arg / 1000
        if fault is self.fault:  # it may have been changed while the call waited for the lock
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), arg)
        return 0.0

    def control(self, order: Any) -> None:
        """Applies the body of ``POST /_control``; a ValueError for an unknown field or kind."""
        given = Order.model_validate(order)
        for name in given.model_fields_set - {"fault"}:
            setattr(self.settings, name, getattr(given, name))
        if "fault" in given.model_fields_set:
            self.change_fault(parse_fault(given.fault) if given.fault else None)


class Order(BaseModel):
    """The body of ``POST /_control``; only the fields that are given change anything."""

    model_config = ConfigDict(extra="forbid")

    ms_per_call: float = 0.0
    ms_per_series: float = 0.0
    fault: str | None = None  # KIND or KIND=ARG


def build_app(settings: Settings, fault: Fault | None = None) -> ASGIApp:
    """The stand-in as an ASGI app; faults of the wire need a real server around it."""
    runtime = Runtime(settings, fault)

    async def health(_: Request) -> Response:
        return _json({"status": "ok"})

    async def tags(_: Request) -> Response:
        return _json({"models": [_tag(model) for model in settings.models if model != "*"]})

    async def loaded(_: Request) -> Response:
        return _json({"models": [_loaded(model) for model in sorted(runtime.loaded)]})

    async def stats(_: Request) -> Response:
        records = vars(runtime.records)
        return _json(records | {"series_per_call": list(runtime.records.series_per_call)})

    async def control(request: Request) -> Response:
        try:
            runtime.control(orjson.loads(await request.body()))
        except ValueError as exc:
            return _json({"error": str(exc)}, 400)
        return _json({})

    async def reset(_: Request) -> Response:
        runtime.change_fault(None)
        runtime.records = Records()
        return _json({})

    routes = [
        Route("/v1/forecast", ForecastRoute(runtime), methods=["POST"]),
        Route("/v1/health", health, methods=["GET"]),
        Route("/api/tags", tags, methods=["GET"]),
        Route("/api/ps", loaded, methods=["GET"]),
        Route("/_stats", stats, methods=["GET"]),
        Route("/_control", control, methods=["POST"]),
        Route("/_reset", reset, methods=["POST"]),
    ]
    return Starlette(routes=routes)


class ForecastRoute:
    """``POST /v1/forecast``.

    The time of a call includes its decoding. A call that is decoded while another one runs is no
    shorter for it: the daemon does both in one Python process, and n calls at once take n times as
    long (measured: 0.95 of the series per second of one call after the other).
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._ended: defaultdict[str, float] = defaultdict(float)  # the last call of each family
        self._inferences: set[asyncio.Task[Reply]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = None if b"followed=1" in scope["query_string"] else self._runtime.strike()
        self._runtime.records.calls += 1
        reply = await self._reply(Headers(scope=scope), Request(scope, receive), fault)
        await deliver(reply, fault, scope, send)

    async def _reply(self, headers: Headers, request: Request, fault: Fault | None) -> Reply:
        try:
            if fault is not None:
                self._runtime.records.faults[fault.kind] += 1
                refuse_by_status(fault)
                if fault.kind in EARLY:
                    return Reply(200, b"")
            contract.require_size(headers.get("content-length"))
            body = await request.body()
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
        poison = fault if fault is not None and fault.kind in POISONED else None
        if poison and poison.kind == "poisoned":
            refuse_poison(poison, series)
        family = family_of(request["model"])
        async with self._runtime.lock_for(request["model"]):
            cost_ms = settings.ms_per_call + len(series) * settings.ms_per_series
            until = max(started, self._ended[family]) + cost_ms / 1000
            content = spoil(fault, answer(request, cost_ms))
            reply = Reply(200, orjson.dumps(content))
            await self._runtime.hold(fault, until)
            self._ended[family] = perf_counter()
        if poison:  # the one that only the model process finds
            refuse_poison(poison, series)
        return reply

    def _accepted(self, body: bytes, headers: Headers) -> dict[str, Any]:
        request = contract.parse(body, headers.get("content-type", ""))
        contract.check(request)
        contract.require_installed(request["model"], self._runtime.settings.models)
        self._runtime.records.series_per_call.append(len(request["series"]))
        return dict(request)


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def _loaded(model: str) -> dict[str, Any]:
    sizes = {"size": 0, "size_vram": 0, "context_length": 0}
    details = {"family": family_of(model)}
    return {"name": model, "model": model, "expires_at": None, **sizes, "details": details}


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
