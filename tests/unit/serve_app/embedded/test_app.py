import json
import threading
from typing import Any

import httpx
import numpy as np
import pytest

from runner.tollama.notices import Notices
from serve_app.embedded.app import MAX_BODY_BYTES, build_runtime_app
from serve_app.embedded.model import ModelFailedError, SeriesError
from tests.support.fakes import FakeClock
from tests.support.recordings import FOLDER, recorded, recorded_request


class FakeModel:
    """Repeats the last value; level q lies q above it."""

    name = "mock"
    best_batch = 2

    def __init__(self, error=None):
        self.error = error
        self.sizes = []
        self.threads = set()

    def forecast(self, series, horizon_steps, levels):
        self.sizes.append(len(series))
        self.threads.add(threading.current_thread().name)
        for index, y in enumerate(series):
            if y[-1] == 666:
                raise SeriesError(index, "needs at least 8 points")
        if self.error is not None:
            raise self.error
        last = np.array([y[-1] for y in series])
        return np.tile(last[:, None, None], (1, horizon_steps, 1)) + np.array(levels)


def make_client(model=None):
    fake: Any = model or FakeModel()
    app = build_runtime_app(fake, FakeClock())
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://runtime")


async def post(body, model=None):
    async with make_client(model) as http:
        if isinstance(body, bytes):
            return await http.post("/v1/forecast", content=body)
        return await http.post("/v1/forecast", json=body)


def make_body(values=(0.0,), **changes):
    series = [
        {
            "id": f"s{i}",
            "freq": "5min",
            "timestamps": ["2026-02-20T11:55:00Z", "2026-02-20T12:00:00Z"],
            "target": [0.0, value],
        }
        for i, value in enumerate(values)
    ]
    return {"model": "mock", "horizon": 2, "quantiles": [0.1, 0.5], "series": series} | changes


async def test_answer_has_the_shape_of_a_recorded_one():
    found = (await post(recorded_request("forecast_two_series"))).json()
    expected = recorded("forecast_two_series")["body"]

    assert found.keys() == expected.keys() - {"explanation", "narrative", "preprocessing"}
    assert [f.keys() for f in found["forecasts"]] == [f.keys() for f in expected["forecasts"]]
    assert [f["id"] for f in found["forecasts"]] == ["s0", "s1"]
    assert found["forecasts"][0]["quantiles"].keys() == {"0.1", "0.5", "0.9"}
    assert found["timing"].keys() == expected["timing"].keys()


@pytest.mark.parametrize(
    ("levels", "quantiles"),
    [
        ([0.1, 0.5], {"0.1": [1.1, 1.1], "0.5": [1.5, 1.5]}),
        ([0.025, 0.1234567], {"0.025": [1.025] * 2, "0.123457": [pytest.approx(1.1234567)] * 2}),
        ([], None),
    ],
)
async def test_paths_are_by_level_and_the_median_is_the_mean(levels, quantiles):
    (forecast,) = (await post(make_body([1.0], quantiles=levels))).json()["forecasts"]

    assert forecast["quantiles"] == quantiles
    assert forecast["mean"] == [1.5, 1.5]


async def test_options_are_ignored_and_covariates_with_a_warning():
    covariates = {"past_covariates": {"v": [1, 2.5]}, "future_covariates": {"v": [3, 4]}}
    body = make_body(options={"num_samples": 3}, timeout=0.001, **one_series(**covariates))

    plain, answer = (await post(make_body())).json(), (await post(body)).json()

    assert answer["forecasts"] == plain["forecasts"]
    assert Notices(answer["warnings"]).ignored(answer["forecasts"][0]["id"]) == ("v",)
    assert answer["usage"]["peak_memory_mb"] > 1
    assert plain["warnings"] is None


@pytest.mark.parametrize("file", sorted(FOLDER.glob("error_*.json")), ids=lambda file: file.stem)
async def test_requests_that_tollama_refuses_are_refused_alike(file):
    raw = {"error_not_json": b"{not json", "error_body_too_large": b"x" * 10_679_103}
    expected = recorded(file.stem)

    answer = await post(raw.get(file.stem) or recorded_request(file.stem))

    assert answer.status_code == expected["status"]
    assert places(answer.json()["detail"]) == places(expected["body"]["detail"])


def places(detail):
    """Where the faults lie, as far as series or top-level field; texts do not count."""
    if isinstance(detail, str):
        return {detail.startswith("model")}
    return {
        tuple(fault["loc"][:3]) if "series" in fault["loc"] else fault["loc"][0] for fault in detail
    }


def one_series(**changes):
    return {"series": [make_body()["series"][0] | changes]}


@pytest.mark.parametrize(
    "change",
    [
        one_series(past_covariates={"v": [1]}),
        one_series(past_covariates={"v": [1, 2]}, future_covariates={"v": [1]}),
        one_series(past_covariates={"v": [1, None]}),
        one_series(target=[0.0, float("nan")]),
        {"data_url": "file:///etc/hostname"},
        {"horizon": 10_001},
        {"horizon": "3"},
        {"series": []},
        {"timeout": 0},
        {"quantiles": [0.5, "s3cret"]},
    ],
    ids=str,
)
async def test_request_outside_the_contract_is_refused_without_repeating_it(change):
    answer = await post(json.dumps(make_body(**change)).encode())

    assert answer.status_code == 400
    assert answer.json()["detail"][0]["loc"][:2] in (["body"], ["body", *change])
    assert "s3cret" not in answer.text


async def test_refused_series_is_named_by_its_place_in_the_call():
    answer = await post(make_body([1.0, 2.0, 3.0, 666]))

    assert answer.status_code == 400
    assert answer.json()["detail"][0]["loc"] == ["body", "series", 3, "target"]


async def test_series_are_computed_a_few_at_a_time_by_one_worker_off_the_event_loop():
    model = FakeModel()

    answer = await post(make_body([1.0, 2.0, 3.0, 4.0, 5.0]), model)

    assert model.sizes == [2, 2, 1]
    assert [f["mean"][0] for f in answer.json()["forecasts"]] == [1.5, 2.5, 3.5, 4.5, 5.5]
    assert len(model.threads) == 1
    assert threading.current_thread().name not in model.threads


async def test_failure_of_the_model_is_a_502_as_from_tollama():
    answer = await post(make_body(), FakeModel(ModelFailedError("RuntimeError")))

    assert answer.status_code == 502
    assert answer.json()["detail"]["code"] == "FORECAST_ERROR"


async def test_body_over_the_limit_is_refused_while_it_is_received():
    sent = []

    async def endless():
        while True:
            sent.append(1)
            yield b" " * 2**20

    async with make_client() as http:
        answer = await http.post("/v1/forecast", content=endless())

    assert answer.status_code == 413
    assert len(sent) == MAX_BODY_BYTES // 2**20 + 1


async def test_health_version_and_models_are_those_of_tollama():
    async with make_client() as http:
        health, version, ready, tags = [
            (await http.get(path)).json()
            for path in ("/v1/health", "/api/version", "/health/ready", "/api/tags")
        ]

    assert health == recorded("health_live")["body"]
    assert version == recorded("version")["body"]
    assert ready["healthy"] is True
    assert [model["name"] for model in tags["models"]] == ["mock"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/v1/forecast", 405), ("GET", "/api/tags/", 404)],
)
async def test_unknown_routes_get_json_and_no_redirect(method, path, status):
    async with make_client() as http:
        answer = await http.request(method, path, headers={"host": "elsewhere.example"})

    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)
    assert "location" not in answer.headers
