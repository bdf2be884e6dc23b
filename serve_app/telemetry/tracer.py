"""Where spans go: nowhere, to stderr, or to a collector over OTLP; as configured.

The provider is our own and not the process's: Serve may set that one.
"""

from collections.abc import Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
)
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Tracer

from runner.config.sections import ObservabilitySection, Traces
from serve_app.telemetry.logs import own_stderr
from serve_app.version import package_version


def configured_tracer(settings: ObservabilitySection, context: Mapping[str, str]) -> Tracer | None:
    """The tracer of a process, or None where nobody wants spans.

    ``context`` says which process it is, for example its replica.
    """
    if settings.traces is Traces.NONE:
        return None
    if settings.traces is Traces.CONSOLE:
        exporter = ConsoleSpanExporter(out=own_stderr(), formatter=_line)
        return tracer_for(SimpleSpanProcessor(exporter), settings.traces_share, context)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
        OTLPSpanExporter,
    )

    otlp = OTLPSpanExporter(endpoint=str(settings.traces_endpoint))
    return tracer_for(BatchSpanProcessor(otlp), settings.traces_share, context)


def _line(span: ReadableSpan) -> str:
    return f"{span.to_json(indent=None)}\n"


def tracer_for(processor: SpanProcessor, share: float, context: Mapping[str, str]) -> Tracer:
    """A tracer that keeps ``share`` of the traces that begin here, and callers' as they say."""
    resource = Resource({"service.name": "tsfm-runner", "service.version": package_version()})
    resource = resource.merge(Resource({f"tsfm.{name}": value for name, value in context.items()}))
    provider = TracerProvider(ParentBased(TraceIdRatioBased(share)), resource)
    provider.add_span_processor(processor)
    return provider.get_tracer("tsfm")
