"""The stand-in answers what the real daemon answered: every recording is played against it."""

from typing import Any

import httpx
import pytest

from loadtest.stub.app import Settings, build_app
from tests.support.recordings import FOLDER, recorded, recorded_request

RECORDINGS = sorted(path.stem for path in FOLDER.glob("*.json"))
WITH_JSON = [name for name in RECORDINGS if name.startswith(("forecast_", "error_"))]
WITH_JSON = [name for name in WITH_JSON if recorded_request(name) is not None]
LOOKUPS = {"health_live": "/v1/health", "tags": "/api/tags"}
NOT_ASKED = {"health_ready", "ps", "version"}  # the service does not call these


def runtime(**settings: Any) -> httpx.AsyncClient:
    app = build_app(Settings(**settings))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://runtime")


def request_of(**changes: Any) -> dict[str, Any]:
    return recorded_request("forecast_two_series") | changes


def shape(value: Any) -> Any:
    """Names, nesting and kinds; numbers are one kind, a list is as its first item."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) else type(value).__name__


def test_every_recording_is_played():
    covered = {*WITH_JSON, *LOOKUPS, *NOT_ASKED, "error_not_json", "error_body_too_large"}

    assert set(RECORDINGS) == covered


@pytest.mark.parametrize("name", WITH_JSON)
async def test_a_recorded_call_gets_the_recorded_status_and_shape(name: str):
    async with runtime() as client:
        response = await client.post("/v1/forecast", json=recorded_request(name))

    assert response.status_code == recorded(name)["status"]
    assert shape(response.json()) == shape(recorded(name)["body"])
    if name.startswith("error_"):
        assert response.json() == recorded(name)["body"]


@pytest.mark.parametrize(
    ("name", "content", "headers"),
    [
        ("error_not_json", b"{nope", {}),
        ("error_body_too_large", b"{}", {"content-length": "10679103"}),
    ],
)
async def test_other_body_gets_the_recorded_refusal(name: str, content: bytes, headers: dict):
    async with runtime() as client:
        headers = {"content-type": "application/json", **headers}
        response = await client.post("/v1/forecast", content=content, headers=headers)

    assert response.status_code == recorded(name)["status"]
    assert response.json() == recorded(name)["body"]


@pytest.mark.parametrize(
    ("content", "headers", "kind"),
    [
        (b'{"model": "mock"}', {}, "model_attributes_type"),
        (b"", {"content-type": "application/json"}, "missing"),
    ],
)
async def test_body_that_is_no_json_object_is_refused(content: bytes, headers: dict, kind: str):
    async with runtime() as client:
        response = await client.post("/v1/forecast", content=content, headers=headers)

    assert response.status_code == 400
    assert response.json()["detail"][0]["type"] == kind


@pytest.mark.parametrize("name", LOOKUPS)
async def test_a_lookup_has_the_recorded_shape(name: str):
    async with runtime() as client:
        await client.post("/v1/forecast", json=request_of())
        response = await client.get(LOOKUPS[name])

    assert response.status_code == 200
    assert shape(response.json()) == shape(recorded(name)["body"])


async def test_a_star_stands_for_any_model_and_is_not_listed():
    async with runtime(models=("*",)) as client:
        response = await client.post("/v1/forecast", json=request_of(model="anything"))
        tags = await client.get("/api/tags")

    assert response.status_code == 200
    assert tags.json() == {"models": []}


async def test_nan_is_accepted_and_comes_back_as_null():
    body = b'{"model":"mock","horizon":2,"quantiles":[0.5],"series":[{"id":"a","freq":"5min",'
    body += b'"timestamps":["x","y"],"target":[0.1,NaN]}]}'
    async with runtime() as client:
        headers = {"content-type": "application/json"}
        response = await client.post("/v1/forecast", content=body, headers=headers)

    assert response.status_code == 200
    assert response.json()["forecasts"][0]["quantiles"] == {"0.5": [None, None]}


async def test_levels_are_keyed_with_six_digits():
    async with runtime() as client:
        levels = [0.00001, 0.123456789]
        response = await client.post("/v1/forecast", json=request_of(quantiles=levels))

    assert set(response.json()["forecasts"][0]["quantiles"]) == {"1e-05", "0.123457"}
