"""schemathesis makes requests from our own OpenAPI document, sound ones and others."""

from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import requests
import schemathesis
from schemathesis import Case, CheckFunction, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fuzz.run import Tally, check, run, shown
from tests.fuzz.senders import Send
from tests.fuzz.shots import FORECAST_PATH, Reply, Shot
from tests.support.openapi import DOCUMENT

# A batch answers 200 with an error for each bad request, so only a single one must be refused.
CHECKS: list[CheckFunction] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
_FRAMING = ("Content-Length", "Connection")  # whoever sends the body says how it is framed
_ANYWHERE = "http://127.0.0.1"


def by_document(send: Send, bodies: int, seed_of_run: int) -> Iterator[Tally]:
    """A tally for each operation and mode; operations with a body get nearly all of ``bodies``."""
    operations = [found.ok() for found in _schema().get_all_operations()]
    with_body = [o for o in operations if o.body]
    for operation in operations:
        has_body = operation in with_body
        many = max(1, bodies // (2 * len(with_body))) if has_body else 1
        for mode in GenerationMode if has_body else (GenerationMode.POSITIVE,):
            tally = Tally(f"{mode.value} {operation.path}")
            cases = operation.as_strategy(generation_mode=mode)
            yield run(tally, cases, partial(fire, send, tally), many, seed_of_run)


def _schema() -> Any:
    return schemathesis.openapi.from_dict(DOCUMENT)


def fire(send: Send, tally: Tally, case: Case) -> None:
    """Sends a case our way, and holds the reply against our checks and schemathesis' own."""
    prepared = _prepared(case)
    shot = _shot(prepared)
    reply = check(shot, send, tally)
    checks = [*CHECKS, *([negative_data_rejection] if shot.path == FORECAST_PATH else [])]
    try:
        case.validate_response(_response(reply, prepared), checks=checks)
    except FailureGroup as exc:
        found = "; ".join(f"{failure.title}: {failure.message}" for failure in exc.exceptions)
        tally.failure = f"{found}\n    {shown(shot)}"
        raise AssertionError(tally.failure) from None


def _shot(prepared: requests.PreparedRequest) -> Shot:
    body = prepared.body or b""
    return Shot(
        path=urlsplit(prepared.url or "").path,
        method=prepared.method or "",
        chunks=(body.encode() if isinstance(body, str) else bytes(body),),  # type: ignore[arg-type] # requests' body is bytes once prepared
        headers=tuple(_raw(h) for h in prepared.headers.items() if h[0] not in _FRAMING),
    )


def _prepared(case: Case) -> requests.PreparedRequest:
    given = case.as_transport_kwargs(base_url=_ANYWHERE)
    names = ("method", "url", "headers", "params", "cookies", "json", "data", "files")
    return requests.Request(**{name: given.get(name) for name in names}).prepare()


def _raw(item: tuple[str | bytes, str | bytes]) -> tuple[bytes, bytes]:
    name, value = (part.encode("latin-1") if isinstance(part, str) else part for part in item)
    return name, value


def _response(reply: Reply, prepared: requests.PreparedRequest) -> Response:
    headers = {name.decode(): [value.decode("latin-1")] for name, value in reply.headers}
    return Response(reply.status, headers, reply.body, prepared, reply.elapsed_s, verify=False)
