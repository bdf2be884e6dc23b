from collections.abc import Sequence

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Tracer

from runner.batching.batch_call import BatchItem, ItemResult, batch_item
from runner.batching.dispatcher import BatchResult
from runner.config.sections import Traces
from runner.types import (
    BatchKey,
    BreakerState,
    FallbackReason,
    ModelFailure,
)
from serve_app.telemetry.tracing import (
    TracedModel,
    configured_tracer,
    forward,
    traced_call,
    traced_item,
    traceparent,
    tracer_for,
)
from tests.support.bench import EXAMPLE, Bench, example
from tests.support.builders import (
    make_answer,
    make_bands,
    make_config,
    make_model_request,
)
from tests.support.fakes import FakeModelPort

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> Tracer:
    return tracer_for(SimpleSpanProcessor(exporter), 1.0, {"replica": "r1"})


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def own_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


async def test_request_is_a_span_under_the_callers(
    exporter: InMemorySpanExporter, tracer: Tracer
) -> None:
    bench = Bench(tracer=tracer)
    await bench.post(EXAMPLE, traceparent=CALLER)

    span = spans(exporter)["POST /tsfm/forecast"]
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id) == (TRACE_ID, 0xB7AD6B7169203331)
    assert span.kind is SpanKind.SERVER
    assert span.attributes == {"http.route": "/tsfm/forecast", "http.response.status_code": 200}
    assert span.resource.attributes["tsfm.replica"] == "r1"


@pytest.mark.parametrize("header", ["00-zz-1-01", CALLER[:-3]])
async def test_header_that_is_no_traceparent_begins_a_new_trace(
    exporter: InMemorySpanExporter, tracer: Tracer, header: str
) -> None:
    bench = Bench(tracer=tracer)
    response = await bench.post(EXAMPLE, traceparent=header)

    assert response.status_code == 200
    assert spans(exporter)["POST /tsfm/forecast"].parent is None


async def test_refusal_is_noted_by_its_name_and_without_its_words(
    exporter: InMemorySpanExporter, tracer: Tracer
) -> None:
    bench = Bench(tracer=tracer)
    await bench.post(example(model={"model_name": "secret-name"}))

    span = spans(exporter)["POST /tsfm/forecast"]
    assert span.attributes is not None
    assert span.attributes["error.type"] == "UnknownModelError"
    assert "secret-name" not in span.to_json()


async def test_routes_for_people_and_probes_are_no_spans(
    exporter: InMemorySpanExporter, tracer: Tracer
) -> None:
    bench = Bench(tracer=tracer)
    for path in ("/healthz", "/tsfm/status", "/metrics"):
        await bench.http.get(path)

    assert spans(exporter) == {}


async def test_items_carry_the_id_of_the_model_span(
    exporter: InMemorySpanExporter, tracer: Tracer
) -> None:
    port = FakeModelPort(ModelFailure(FallbackReason.BREAKER_OPEN, BreakerState.OPEN, 1.0))
    model = TracedModel(port, tracer)
    await model.forecast(make_model_request())
    port.outcome = make_answer()
    assert len([ready async for ready in model.forecast_many([make_model_request()] * 2)]) == 2

    one, many = exporter.get_finished_spans()
    assert [r.trace and int(r.trace.split("-")[2], 16) for r in port.requests] == [
        own_id(one),
        own_id(many),
        own_id(many),
    ]
    assert one.attributes is not None
    assert one.attributes["tsfm.reasons"] == ("breaker_open",)
    assert many.attributes == {"tsfm.model": "fracast-0", "tsfm.items": 2}


async def test_queue_time_is_a_span(exporter: InMemorySpanExporter, tracer: Tracer) -> None:
    port = FakeModelPort(make_answer(queue_ms=1.5))
    await traced_item(port.forecast, tracer, lambda: 10**18)(make_model_request(trace=CALLER))
    port.outcome = make_answer(age_s=3.0)
    await traced_item(port.forecast, tracer, lambda: 10**18)(make_model_request(trace=CALLER))

    (queue,) = exporter.get_finished_spans()
    assert (queue.name, queue.parent and queue.parent.trace_id) == ("queue", TRACE_ID)
    assert (queue.start_time, queue.end_time) == (10**18, 10**18 + 1_500_000)


class FakeRuntimeCall:
    """A runtime call that sends a request, as the real one does."""

    def __init__(self, *results: ItemResult | Exception) -> None:
        self._results = results
        self.sent = httpx.Request("POST", "http://runtime/v1/forecast")

    async def __call__(self, key: BatchKey, items: Sequence[BatchItem]) -> BatchResult[ItemResult]:
        forward(self.sent)
        return BatchResult(self._results)


async def test_runtime_call_is_linked_to_every_trace_in_the_batch(
    exporter: InMemorySpanExporter, tracer: Tracer
) -> None:
    traces = [f"00-{i:032x}-{i:016x}-01" for i in (1, 2, 3)]
    items = [batch_item(make_model_request(trace=t)) for t in (*traces, traces[0], None)]
    call = FakeRuntimeCall(ItemResult(make_bands(), 5, 0.0, 0.1))
    await traced_call(call, tracer)(items[0].request.key, items)

    span = spans(exporter)["runtime call"]
    assert [link.context.trace_id for link in span.links] == [1, 2, 3]
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id) == (1, 1)
    assert span.attributes == {"tsfm.model": "fracast-0", "tsfm.batch_size": 5, "tsfm.result": "ok"}
    assert call.sent.headers["traceparent"] == f"00-{1:032x}-{own_id(span):016x}-01"


def test_without_a_trace_there_is_no_header_and_without_configuration_no_tracer() -> None:
    request = httpx.Request("POST", "http://runtime/v1/forecast")
    forward(request)

    assert "traceparent" not in request.headers
    assert configured_tracer(make_config().observability, {}) is None


def test_console_writes_one_line_of_json_for_a_span(capfd: pytest.CaptureFixture[str]) -> None:
    settings = make_config(
        observability={"traces": Traces.CONSOLE, "traces_share": 1.0}
    ).observability
    tracer = configured_tracer(settings, {"replica": "r1"})
    assert tracer is not None
    with tracer.start_as_current_span("one"):
        pass

    (line,) = capfd.readouterr().err.splitlines()
    assert '"name": "one"' in line


def test_share_of_traces_that_begin_here_is_the_configured_one(
    exporter: InMemorySpanExporter,
) -> None:
    tracer = tracer_for(SimpleSpanProcessor(exporter), 0.0, {})
    with tracer.start_as_current_span("dropped") as span:
        header = traceparent(span)

    assert header is not None
    assert int(header[-2:], 16) & 1 == 0  # not sampled
    assert spans(exporter) == {}
