"""Requests and answers on their way to and from Serve, with a stand-in for Serve between them."""

from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from ray.serve._private import constants as serve
from starlette.types import Message, Receive, Scope, Send

from serve_app.edge.before_serve import BeforeServe

OBEYED = (
    serve.SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
    serve.SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
    serve.SERVE_SESSION_ID,
    serve.SERVE_MULTIPLEXED_MODEL_ID,
    serve.SERVE_INGRESS_ROUTER_HEADER_PREFIX + "anything",
)
JSON = [(b"content-type", b"application/json")]
PLAIN = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"5")]


class FakeServe:
    """Keeps the headers that reach it; gives this answer."""

    def __init__(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self.start = {"type": "http.response.start", "status": status, "headers": [*headers]}
        self.body = body
        self.headers: dict[bytes, bytes] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers = dict(scope["headers"])
        await send(self.start)
        await send({"type": "http.response.body", "body": self.body[:2], "more_body": True})
        await send({"type": "http.response.body", "body": self.body[2:]})


async def ask(
    behind: FakeServe, path: str = "/", headers: Sequence[tuple[bytes, bytes]] = ()
) -> httpx.Response:
    transport = httpx.ASGITransport(BeforeServe(behind))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
        return await http.get(path, headers=[*headers])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, b"0.0001") for name in (*OBEYED, "x_session_id", "serve-multiplexed-model-id")),
        *(("x-request-id", value) for value in (b"\xff\xfe", b"a" * 129, b"a b", b"")),
        *((name, b"\xff") for name in ("traceparent", "tracestate")),
    ],
)
async def test_header_that_serve_obeys_or_cannot_decode_does_not_reach_it(
    name: str, value: bytes
) -> None:
    behind = FakeServe(200, JSON, b"{}")

    await ask(behind, headers=[(name.title().encode(), value), (b"x-other", b"1")])

    assert behind.headers is not None
    assert name.encode() not in behind.headers
    assert behind.headers[b"x-other"] == b"1"


async def test_harmless_ids_pass_and_so_does_every_byte_of_an_answer() -> None:
    behind = FakeServe(200, [(b"content-type", b"text/plain")], b"metric 1")

    answer = await ask(behind, headers=[(b"x-request-id", b"a-1"), (b"traceparent", b"00-1-2-01")])

    assert behind.headers is not None
    assert behind.headers[b"x-request-id"] == b"a-1"
    assert behind.headers[b"traceparent"] == b"00-1-2-01"
    assert (answer.status_code, answer.text) == (200, "metric 1")


@pytest.mark.parametrize(
    ("status", "shown", "code"),
    [
        (404, 503, "unavailable"),
        (408, 408, "request_timeout"),
        (429, 429, "overloaded"),
        (500, 500, "internal_error"),
        (503, 503, "unavailable"),
    ],
)
async def test_plain_error_of_serve_becomes_json(status: int, shown: int, code: str) -> None:
    answer = await ask(FakeServe(status, PLAIN, b"plain"), headers=[(b"x-request-id", b"a-1")])

    assert answer.status_code == shown
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["request_id"] == "a-1"
    assert ("retry-after" in answer.headers) is (shown in (429, 503))


async def test_plain_error_keeps_retry_after_and_request_id() -> None:
    headers = [*PLAIN, (b"retry-after", b"7"), (b"x-request-id", b"b-2")]

    answer = await ask(FakeServe(429, headers, b"plain"))

    assert answer.headers["retry-after"] == "7"
    assert answer.headers["x-request-id"] == "b-2"


async def test_json_error_of_the_service_passes_as_it_is() -> None:
    answer = await ask(FakeServe(404, JSON, b'{"error":1}'))

    assert (answer.status_code, answer.json()) == (404, {"error": 1})


async def test_health_of_a_replica_stays_what_haproxy_reads() -> None:
    answer = await ask(FakeServe(503, PLAIN, b"drain"), path="/-/healthz")

    assert (answer.status_code, answer.text) == (503, "drain")


async def test_what_is_no_request_passes() -> None:
    seen: list[Scope] = []

    async def behind(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def nothing(*_: Message) -> Any:
        raise AssertionError("not a request")

    await BeforeServe(behind)({"type": "lifespan"}, nothing, nothing)

    assert seen == [{"type": "lifespan"}]
