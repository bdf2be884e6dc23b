from typing import Any

import httpx
import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from serve_app.http.errors import CODES
from serve_app.http.openapi.document import FORECAST, build_document
from serve_app.http.requests import MIN_LEVEL
from tests.support.bench import EXAMPLE, Bench
from tests.support.builders import make_config
from tests.support.openapi import (
    CLOSED,
    DOCUMENT,
    assert_documented,
    complaints,
    media,
    operation,
)
from tests.support.tokens import make_guarded_config

FORECAST_PATH = "/tsfm/forecast"
EXAMPLES = [
    pytest.param(content["schema"], example["value"], id=f"{where} {name}")
    for where, content in media()
    for name, example in content.get("examples", {}).items()
]


def test_document_is_valid_openapi() -> None:
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


async def test_document_is_served_as_it_was_built(bench: Bench) -> None:
    response = await bench.http.get("/openapi.json")

    assert response.headers["content-type"] == "application/json"
    assert response.json() == DOCUMENT


async def test_document_lists_exactly_the_routes_of_the_app(bench: Bench) -> None:
    listed = {(p, method.upper()) for p, item in DOCUMENT["paths"].items() for method in item}
    routes = [r for r in bench.app.routes if isinstance(r, Route) and r.include_in_schema]

    assert listed == {(r.path, m) for r in routes for m in (r.methods or set()) - {"HEAD"}}


@pytest.mark.parametrize(("schema", "value"), EXAMPLES)
def test_every_example_has_the_form_the_document_gives_it(
    schema: dict[str, Any], value: object
) -> None:
    assert complaints(schema, value) == []


def test_first_example_is_the_customers_own() -> None:
    assert orjson.loads(EXAMPLE) == FORECAST


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("POST", FORECAST_PATH, 200, {}),
        ("POST", FORECAST_PATH, 422, {"error": {"code": "unheard_of", "message": "x"}}),
        ("POST", FORECAST_PATH, 418, {"error": {"code": "invalid_request", "message": "x"}}),
        ("GET", "/nowhere", 404, {"detail": "Not Found"}),
        ("GET", FORECAST_PATH, 405, {"detail": "Method Not Allowed"}),
    ],
)
async def test_answer_that_is_not_documented_fails_the_test_that_got_it(
    method: str, path: str, status: int, body: object
) -> None:
    answer = httpx.MockTransport(lambda _: httpx.Response(status, json=body))
    hooks = {"response": [assert_documented]}
    async with httpx.AsyncClient(transport=answer, event_hooks=hooks) as client:
        with pytest.raises((AssertionError, KeyError)):
            await client.request(method, f"http://test{path}")


def test_every_code_has_an_example() -> None:
    shown = {name for where, content in media() for name in content.get("examples", {})}
    shown |= {
        name
        for response in DOCUMENT["components"]["responses"].values()
        for name in response["content"]["application/json"]["examples"]
    }

    assert CODES - {"bad_request"} <= shown  # the root of the tree, which nobody raises


def test_limits_are_those_of_the_configuration() -> None:
    limits = {"max_points": 77, "max_levels": 3, "max_horizon_steps": 9, "horizon_steps": 5}
    document = build_document(make_config(request=limits))
    fields = document["components"]["schemas"]["ForecastRequest"]["properties"]

    assert fields["y"]["maxItems"] == 77
    assert fields["y"]["items"]["anyOf"][0] == {"type": "number", "minimum": 0, "maximum": 1}
    assert fields["quantiles"]["anyOf"][0]["maxItems"] == 3
    assert fields["quantiles"]["anyOf"][0]["items"]["minimum"] == MIN_LEVEL
    assert fields["horizon_steps"] == {
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"type": "null"}],
        "default": 5,
    }


def test_operations_are_grouped_and_every_group_is_described() -> None:
    described = {tag["name"] for tag in DOCUMENT["tags"]}
    used = [item[m]["tags"] for item in DOCUMENT["paths"].values() for m in item]

    assert {tag for tags in used for tag in tags} == described
    assert operation("/tsfm/check")["tags"] == ["Forecasts"]


def test_token_is_optional_until_there_are_tokens() -> None:
    guarded = build_document(make_guarded_config())["paths"]

    assert operation(FORECAST_PATH)["security"] == [{}, {"bearer": ["forecast"]}]
    assert guarded[FORECAST_PATH]["post"]["security"] == [{"bearer": ["forecast"]}]
    assert guarded["/healthz"]["get"]["security"] == []


def test_answers_may_grow_and_requests_may_not() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    assert schemas["ForecastRequest"]["additionalProperties"] is False
    assert "additionalProperties" not in schemas["AnswerMeta"]
    assert CLOSED["AnswerMeta"]["additionalProperties"] is False
