from typing import Any

import httpx
import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from runner.answers import WARNINGS
from runner.sections import Environment
from runner.types import BreakerState, FallbackReason, ModelFailure
from serve_app.errors import CODES
from serve_app.openapi import build_document
from serve_app.openapi_examples import ANSWERS, BASELINE_ANSWER, FORECAST, MODEL_ANSWER, REQUESTS
from serve_app.schemas import MIN_LEVEL
from tests.bench import EXAMPLE, Bench, example
from tests.builders import make_answer, make_bands, make_config
from tests.openapi import (
    CLOSED,
    DOCUMENT,
    complaints,
    media,
    named,
    operation,
    response_schema,
)
from tests.tokens import make_guarded_config

FORECAST_PATH, BATCH_PATH = "/tsfm/forecast", "/tsfm/forecast/batch"
EXAMPLES = [
    pytest.param(content["schema"], example["value"], id=f"{where} {name}")
    for where, content in media()
    for name, example in content.get("examples", {}).items()
]


def property_of(schema: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][schema]["properties"][name]
    return found


def found_in(response: httpx.Response, path: str) -> list[str]:
    """What the document has against an answer; a status it does not name is an error."""
    media_type = response.headers["content-type"].partition(";")[0]
    schema = response_schema(path, response.status_code, media_type)
    values: list[object] = [response.text]
    if "ndjson" in media_type:
        values = [orjson.loads(line) for line in response.text.splitlines()]
    elif "json" in media_type:
        values = [response.json()]
    return [complaint for value in values for complaint in complaints(schema, value)]


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


@pytest.mark.parametrize("path", [p for p in DOCUMENT["paths"] if "requestBody" in operation(p)])
async def test_every_example_of_a_request_is_accepted(bench: Bench, path: str) -> None:
    bench.model.outcome = lambda r: make_answer(
        bands=make_bands(r.key.horizon_steps, len(r.key.levels))
    )
    examples = operation(path)["requestBody"]["content"]["application/json"]["examples"]
    for body in examples.values():
        content = orjson.dumps(body["value"])
        response = await bench.http.post(
            path.replace("{model}", "mock"),
            content=content,
            headers={"content-type": "application/json"},
        )

        assert response.status_code == 200
        assert '"error"' not in response.text
        assert found_in(response, path) == []


def test_first_example_is_the_customers_own() -> None:
    assert orjson.loads(EXAMPLE) == FORECAST


async def test_examples_of_answers_have_the_fields_of_real_ones(bench: Bench) -> None:
    from_model = (await bench.post(EXAMPLE)).json()
    from_baseline = (await bench.post(example(liquidity_bucket="low"))).json()
    uncalibrated = (await bench.post(example(conformal=True))).json()

    for shown, real in (
        (MODEL_ANSWER, from_model),
        (BASELINE_ANSWER, from_baseline),
        (ANSWERS["uncalibrated"]["value"], uncalibrated),
    ):
        assert set(shown) == set(real)
        assert set(shown["meta"]) == set(real["meta"])
        assert {k: len(v) for k, v in shown["yhat_q"].items()} == dict.fromkeys(real["yhat_q"], 12)


ANSWERED: list[tuple[str, dict[str, Any]]] = [
    ("model", {}),
    ("fallback", {"liquidity_bucket": "low"}),
    ("calibrated paths wanted", {"conformal": True}),
    ("gaps and odd levels", {"y": [0.4, None] * 30, "quantiles": [1e-6, 0.025, 0.999999]}),
    ("version wished for", {"model": {"model_name": "chronos", "model_version": "9"}}),
]


@pytest.mark.parametrize("changes", [c for _, c in ANSWERED], ids=[name for name, _ in ANSWERED])
async def test_answers_have_the_form_of_the_document(bench: Bench, changes: dict[str, Any]) -> None:
    response = await bench.post(example(**changes))

    assert response.status_code == 200
    assert found_in(response, FORECAST_PATH) == []


@pytest.mark.parametrize("reason", [*FallbackReason])
async def test_stale_and_fallback_answers_have_the_form_of_the_document(
    bench: Bench, reason: FallbackReason
) -> None:
    await bench.post(EXAMPLE)
    bench.clock.now += 61.0
    bench.model.outcome = ModelFailure(reason, BreakerState.HALF_OPEN)
    stale = await bench.post(EXAMPLE)
    fallback = await bench.post(example(y=[0.2] * 40))

    assert stale.json()["meta"]["cache_stale"] is True
    assert fallback.json()["meta"]["fallback_reason"] == reason
    assert found_in(stale, FORECAST_PATH) + found_in(fallback, FORECAST_PATH) == []


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
async def test_batches_and_their_lines_have_the_form_of_the_document(
    bench: Bench, accept: str
) -> None:
    requests = [example(), example(y=[2.0]), example(liquidity_bucket="low"), 5]
    response = await bench.http.post(
        BATCH_PATH, content=orjson.dumps({"requests": requests}), headers={"accept": accept}
    )

    assert response.headers["content-type"].startswith(accept)
    assert response.text.count('"error"') == 2
    assert found_in(response, BATCH_PATH) == []


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (FORECAST_PATH, b"{", 400),
        (FORECAST_PATH, example(horizon_steps=0, y=["x"]), 422),
        (FORECAST_PATH, example(y=[3.0, 0.5]), 422),
        (FORECAST_PATH, example(model={"model_name": "nobody"}), 404),
        (FORECAST_PATH, example(model={"model_name": "moirai"}), 403),
        (FORECAST_PATH, b" " * 5000, 413),
        (BATCH_PATH, b"[]", 422),
        (BATCH_PATH, {"requests": [1, 2, 3]}, 413),
        (BATCH_PATH, b" " * 5000, 413),
    ],
)
async def test_refusals_have_the_form_of_the_document(path: str, body: Any, status: int) -> None:
    limits = {"max_body_bytes": 4000, "max_batch_body_bytes": 4000, "max_batch_requests": 2}
    bench = Bench(make_config(environment=Environment.PROD, request=limits))
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    response = await bench.http.post(path, content=content)
    await bench.http.aclose()

    assert response.status_code == status
    assert found_in(response, path) == []


async def test_fault_of_ours_has_the_form_of_the_document(bench: Bench) -> None:
    def explode(_: object) -> ModelFailure:
        raise RuntimeError

    bench.model.outcome = explode
    response = await bench.post(EXAMPLE)

    assert response.status_code == 500
    assert found_in(response, FORECAST_PATH) == []


@pytest.mark.parametrize("path", [p for p, item in DOCUMENT["paths"].items() if "get" in item])
async def test_routes_without_a_body_answer_in_the_form_of_the_document(
    bench: Bench, path: str
) -> None:
    await bench.post(EXAMPLE)  # so that a breaker is known
    response = await bench.http.get(path)

    assert response.status_code == 200
    assert path == "/openapi.json" or found_in(response, path) == []


async def test_refusals_by_the_gate_have_the_form_of_the_document() -> None:
    bench = Bench(make_guarded_config())
    for path in (FORECAST_PATH, BATCH_PATH):
        response = await bench.http.post(path, content=EXAMPLE)

        assert response.status_code == 401
        assert found_in(response, path) == []
    await bench.http.aclose()


async def test_wrong_path_and_method_have_the_form_of_the_document(bench: Bench) -> None:
    for method, path, status in (("GET", "/nowhere", 404), ("GET", FORECAST_PATH, 405)):
        response = await bench.http.request(method, path)
        shown = DOCUMENT["components"]["responses"][str(status)]["content"]["application/json"]

        assert complaints(shown["schema"], response.json()) == []
        assert response.json()["error"]["code"] in shown["examples"]


def test_every_code_has_an_example() -> None:
    shown = {name for where, content in media() for name in content.get("examples", {})}
    shown |= {
        name
        for response in DOCUMENT["components"]["responses"].values()
        for name in response["content"]["application/json"]["examples"]
    }

    assert CODES - {"bad_request"} <= shown  # the root of the tree, which nobody raises


def test_enums_are_those_of_the_code() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    assert schemas["FallbackReason"]["enum"] == [*FallbackReason]
    assert schemas["BreakerState"]["enum"] == [*BreakerState]
    assert property_of("AnswerMeta", "warnings")["items"]["enum"] == [*WARNINGS]
    assert property_of("Error", "code")["enum"] == sorted(CODES)


def test_limits_are_those_of_the_configuration() -> None:
    limits = {"max_points": 77, "max_levels": 3, "max_horizon_steps": 9, "horizon_steps": 5}
    document = build_document(make_config(request=limits))
    fields = document["components"]["schemas"]["ForecastRequest"]["properties"]

    assert fields["y"]["maxItems"] == 77
    assert fields["quantiles"]["anyOf"][0]["maxItems"] == 3
    assert fields["quantiles"]["anyOf"][0]["items"]["minimum"] == MIN_LEVEL
    assert fields["horizon_steps"] == {
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"type": "null"}],
        "default": 5,
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y": [0.1] * 20_001}, "is too long"),
        ({"y": [1.5, 0.5]}, "is not valid under"),
        ({"horizon_steps": 513}, "is not valid under"),
        ({"quantiles": [0.5, 0.5]}, "is not valid under"),
        ({"unknown": 1}, "Additional properties"),
    ],
)
def test_document_refuses_what_the_service_refuses(changes: dict[str, Any], words: str) -> None:
    found = complaints(named("ForecastRequest"), example(**changes))

    assert words in found[0]


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


def test_examples_are_not_touched_by_building_a_document() -> None:
    before = orjson.dumps(REQUESTS)
    build_document(make_config())

    assert orjson.dumps(REQUESTS) == before
