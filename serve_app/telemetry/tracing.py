"""Spans of one request: ingress, model, queue, runtime call, baseline.

    forecast (ingress) -- model -- queue            one for each item that waited for a call
            |                `---- runtime call     one for a batch, linked to every item in it
            `-- baseline

Each wrapper has the interface of what it wraps, and is used only while tracing is on. Spans hold
models, sizes, reasons and times, and no data of callers except the trace id. They are written to
stderr or sent to a collector over OTLP, as configured. The provider is our own, because Serve may
set the global one of the process.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import httpx
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
)
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.baseline.ewma_bands import BaselineRequest
from runner.batching.batch_call import BatchItem, ItemResult
from runner.batching.dispatcher import BatchResult
from runner.config.sections import ObservabilitySection, Traces
from runner.forecast.answers import ModelOutcome
from runner.forecast.forecaster import BaselinePort, ModelPort, OutcomesReady
from runner.types import Bands, BatchKey, ModelAnswer, ModelRequest
from serve_app.telemetry.logs import own_stderr
from serve_app.telemetry.request_metrics import Call, result_of
from serve_app.version import package_version


def configured_tracer(settings: ObservabilitySection, context: Mapping[str, str]) -> Tracer | None:
    """The tracer of the process that ``context`` identifies, or None where tracing is off."""
    if settings.traces is Traces.NONE:
        return None
    if settings.traces is Traces.CONSOLE:
        exporter = ConsoleSpanExporter(
            out=own_stderr(), formatter=lambda span: f"{span.to_json(indent=None)}\n"
        )
        return tracer_for(SimpleSpanProcessor(exporter), settings.traces_share, context)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    otlp = OTLPSpanExporter(endpoint=str(settings.traces_endpoint))
    return tracer_for(BatchSpanProcessor(otlp), settings.traces_share, context)


def tracer_for(processor: SpanProcessor, share: float, context: Mapping[str, str]) -> Tracer:
    """A tracer that samples ``share`` of the traces that begin here; callers' by their own flag."""
    resource = Resource({"service.name": "tsfm-runner", "service.version": package_version()})
    resource = resource.merge(Resource({f"tsfm.{name}": value for name, value in context.items()}))
    provider = TracerProvider(ParentBased(TraceIdRatioBased(share)), resource)
    provider.add_span_processor(processor)
    return provider.get_tracer("tsfm")


HEADER = "traceparent"
ItemForecast = Callable[[ModelRequest], Coroutine[Any, Any, ModelOutcome]]
_PROPAGATOR = TraceContextTextMapPropagator()


def traced_app(app: ASGIApp, tracer: Tracer, route: str) -> ASGIApp:
    """An ASGI app with a span for each request: a child of the caller's ``traceparent`` if any.

    An error is recorded by its class name only, and raised again.
    """

    async def traced(scope: Scope, receive: Receive, send: Send) -> None:
        parent = context_of(Headers(scope=scope).get(HEADER))
        with _span(tracer, f"POST {route}", parent, SpanKind.SERVER) as span:
            span.set_attribute("http.route", route)

            async def send_noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            try:
                await app(scope, receive, send_noted)
            except Exception as exc:
                span.set_attribute("error.type", type(exc).__name__)
                raise

    return traced


class TracedModel:
    """Calls to the Runner with a span; the items carry its id."""

    def __init__(self, model: ModelPort, tracer: Tracer) -> None:
        self._model = model
        self._tracer = tracer

    async def forecast(self, request: ModelRequest) -> ModelOutcome:
        """One item's bands or failure."""
        with _span(self._tracer, "model") as span:
            outcome = await self._model.forecast(replace(request, trace=traceparent(span)))
            _note(span, request.key.model, [outcome])
        return outcome

    async def forecast_many(
        self, requests: Sequence[ModelRequest]
    ) -> AsyncGenerator[OutcomesReady]:
        """Each item's bands or failure with its index, as they become ready."""
        with _span(self._tracer, "model") as span:
            parent = traceparent(span)
            sent = [replace(request, trace=parent) for request in requests]
            outcomes: list[ModelOutcome] = []
            async for ready in self._model.forecast_many(sent):
                outcomes += [outcome for _, outcome in ready]
                yield ready
            _note(span, requests[0].key.model, outcomes)


class TracedBaseline:
    """Calls to the baseline with a span."""

    def __init__(self, baseline: BaselinePort, tracer: Tracer) -> None:
        self._baseline = baseline
        self._tracer = tracer

    async def forecast(self, requests: Sequence[BaselineRequest]) -> Sequence[Bands]:
        """Bands of every item, in order."""
        with _span(self._tracer, "baseline") as span:
            span.set_attribute("tsfm.items", len(requests))
            return await self._baseline.forecast(requests)


def traced_item(forecast: ItemForecast, tracer: Tracer, wall_ns: Callable[[], int]) -> ItemForecast:
    """The forecast of an item in a Runner, with a span for the time it waited for a slot.

    ``wall_ns`` is the POSIX time in nanoseconds.
    """

    async def traced(request: ModelRequest) -> ModelOutcome:
        began_ns = wall_ns()
        outcome = await forecast(request)
        if isinstance(outcome, ModelAnswer) and outcome.age_s is None:
            span = tracer.start_span("queue", context_of(request.trace), start_time=began_ns)
            span.end(began_ns + int(outcome.queue_ms * 1e6))
        return outcome

    return traced


def traced_call(call: Call, tracer: Tracer) -> Call:
    """A runtime call with a span: child of the first item's span, linked to those of all items."""

    async def traced(key: BatchKey, items: Sequence[BatchItem]) -> BatchResult[ItemResult]:
        found = (item.request.trace for item in items)
        parents = dict.fromkeys(parent for parent in found if parent is not None)
        contexts = [context_of(parent) for parent in parents]
        links = [Link(trace.get_current_span(context).get_span_context()) for context in contexts]
        parent = contexts[0] if contexts else None
        with _span(tracer, "runtime call", parent, SpanKind.CLIENT, links) as span:
            span.set_attribute("tsfm.model", key.model)
            span.set_attribute("tsfm.batch_size", len(items))
            outcome = await call(key, items)
            span.set_attribute("tsfm.result", result_of(outcome))
        return outcome

    return traced


def forward(request: httpx.Request) -> None:
    """Adds the current ``traceparent`` to a request to the runtime; called for each of them."""
    parent = traceparent(trace.get_current_span())
    if parent is not None:
        request.headers[HEADER] = parent


def traceparent(span: Span) -> str | None:
    """The header that makes another process's spans children of this one (W3C Trace Context).

    A caller's ``tracestate`` is not passed on, only the ids.
    """
    found = span.get_span_context()
    if not found.is_valid:
        return None
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def context_of(header: str | None) -> Context | None:
    """The context of a ``traceparent``; empty if it is not valid."""
    return None if header is None else _PROPAGATOR.extract({HEADER: header}, Context())


def _span(
    tracer: Tracer,
    name: str,
    parent: Context | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    links: Sequence[Link] = (),
) -> AbstractContextManager[Span]:
    """A current span; it records no exception texts, as they may contain callers' values."""
    return tracer.start_as_current_span(
        name, parent, kind, links=links, record_exception=False, set_status_on_exception=False
    )


def _note(span: Span, model: str, outcomes: Sequence[ModelOutcome]) -> None:
    span.set_attribute("tsfm.model", model)
    span.set_attribute("tsfm.items", len(outcomes))
    reasons = {o.reason.value for o in outcomes if not isinstance(o, ModelAnswer)}
    if reasons:
        span.set_attribute("tsfm.reasons", sorted(reasons))
