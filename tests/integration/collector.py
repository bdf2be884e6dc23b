"""A collector of traces over OTLP, as real ones are spoken to: what a service exports, kept."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span


@dataclass(frozen=True, slots=True)
class Exported:
    """A span, with ids in the form of a ``traceparent``."""

    name: str
    trace: str
    id: str
    parent: str
    links: frozenset[str]  # traces
    sizes: dict[str, int]
    deployment: str


@dataclass(frozen=True, slots=True)
class Collector:
    """Where it listens, and what came."""

    url: str
    spans: list[Exported] = field(default_factory=list)

    def of(self, trace: str) -> dict[str, Exported]:
        """The spans of a trace by name."""
        return {span.name: span for span in self.spans if span.trace == trace}


@contextmanager
def start_collector() -> Iterator[Collector]:
    """A collector on a free port, while the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                collector.spans.extend(_spans(resource))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: the test says what is wrong."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}/v1/traces")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _spans(resource: ResourceSpans) -> Iterator[Exported]:
    of = {a.key: a.value.string_value for a in resource.resource.attributes}
    for scope in resource.scope_spans:
        for span in scope.spans:
            yield _exported(span, of["tsfm.deployment"])


def _exported(span: Span, deployment: str) -> Exported:
    return Exported(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        links=frozenset(link.trace_id.hex() for link in span.links),
        sizes={a.key: a.value.int_value for a in span.attributes},
        deployment=deployment,
    )
