"""The service's own document as tests use it: schemas that know every field there is."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
from jsonschema import Draft202012Validator

from serve_app.http.openapi.document import build_document
from tests.support.builders import make_config

DOCUMENT: dict[str, Any] = orjson.loads(orjson.dumps(build_document(make_config())))


def closed(schema: Any) -> Any:
    """The schema with every object closed: callers must expect new fields, tests must not."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("additionalProperties"):
        inner["additionalProperties"] = False
    return inner


CLOSED = closed(DOCUMENT["components"]["schemas"])


def complaints(schema: dict[str, Any], value: object) -> list[str]:
    """What is wrong with ``value`` under a schema of the document; empty when nothing is."""
    whole = {**schema, "components": {"schemas": CLOSED}}
    return [error.message for error in Draft202012Validator(whole).iter_errors(value)]


def named(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def operation(path: str) -> dict[str, Any]:
    """What the document says of the one method of a path, be it a template or filled in."""
    (found,) = DOCUMENT["paths"][_template(path)].values()
    return dict(found)


def _template(path: str) -> str:
    matches = (t for t in DOCUMENT["paths"] if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", t), path))
    return path if path in DOCUMENT["paths"] else next(matches, path)


def response_schema(path: str, status: int, media_type: str = "application/json") -> dict[str, Any]:
    content = operation(path)["responses"][str(status)]["content"]
    return dict(content[media_type]["schema"])


async def assert_documented(response: httpx.Response) -> None:
    """Fails for an answer that does not have the form that the document gives it.

    An event hook of httpx: it sees every answer that a test gets. Pages of the console are not in
    the document; of paths and methods that are not, it has the refusals only.
    """
    request, status = response.request, str(response.status_code)
    listed = DOCUMENT["paths"].get(_template(request.url.path), {}).get(request.method.lower())
    responses = (listed or DOCUMENT["components"])["responses"]
    if request.method == "HEAD" or (listed is None and status not in responses):
        return
    text, media_type = (await response.aread()).decode(), response.headers["content-type"]
    media_type = media_type.partition(";")[0]
    values = text.splitlines() if "ndjson" in media_type else [text]
    for value in values if media_type == "text/plain" else map(orjson.loads, values):
        assert complaints(responses[status]["content"][media_type]["schema"], value) == []


def media() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every place of the document that holds a body, with its schema and examples."""
    for path in DOCUMENT["paths"]:
        found = operation(path)
        bodies = {"request": found["requestBody"]} if "requestBody" in found else {}
        for where, body in (bodies | found["responses"]).items():
            for media_type, content in body["content"].items():
                yield f"{path} {where} {media_type}", content
