"""The stand-in as a process on a socket: speed, locks, faults of the wire, start and end."""

import asyncio
import gzip
import json
import socket
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import httpx
import orjson
import pytest

from loadtest.http_client import endpoint
from loadtest.stub.app import Runtime, Settings, build_app
from loadtest.stub.process import StubProcess
from tests.support.recordings import recorded_request

REQUEST = recorded_request("forecast_two_series")


@pytest.fixture(scope="module")
def process() -> Iterator[StubProcess]:
    with StubProcess("--ms-per-call", "0", "--ms-per-series", "0") as stub:
        yield stub


@pytest.fixture
def stub(process: StubProcess) -> StubProcess:
    process.control(fault=None, ms_per_call=0, ms_per_series=0)
    process.reset()
    return process


def call(stub: StubProcess, **options: Any) -> httpx.Response:
    timeout = options.pop("timeout", 10)
    with httpx.Client(base_url=stub.url, trust_env=False, verify=False, timeout=timeout) as client:
        return client.post("/v1/forecast", json=REQUEST, **options)


async def seconds_for(stub: StubProcess, *requests: dict[str, Any]) -> float:
    started = perf_counter()
    async with httpx.AsyncClient(
        base_url=stub.url, trust_env=False, verify=False, timeout=10
    ) as client:
        calls = [client.post("/v1/forecast", json=request) for request in requests]
        for response in await asyncio.gather(*calls):
            response.raise_for_status()
    return perf_counter() - started


async def test_a_call_takes_its_set_time_for_the_call_and_each_series(stub: StubProcess):
    stub.control(ms_per_call=100, ms_per_series=50)

    assert 0.2 <= await seconds_for(stub, REQUEST) < 2


async def test_calls_of_one_model_queue(stub: StubProcess):
    stub.control(ms_per_call=150)

    assert await seconds_for(stub, REQUEST, REQUEST) >= 0.3


async def test_decoding_one_call_during_another_saves_no_time():
    first = REQUEST["series"][0]
    points = {name: first[name][:1] * 100_000 for name in ("timestamps", "target")}
    body = orjson.dumps(REQUEST | {"series": [{"id": "a", "freq": "5min", **points}]})
    headers = {"content-type": "application/json"}
    app = httpx.ASGITransport(build_app(Settings(ms_per_call=200, models=("*",))))
    async with httpx.AsyncClient(transport=app, base_url="http://stub", headers=headers) as client:
        started = perf_counter()
        calls = [client.post("/v1/forecast", content=body) for _ in range(2)]
        answers = await asyncio.gather(*calls)

    assert perf_counter() - started >= 0.4
    assert [answer.status_code for answer in answers] == [200, 200]


async def test_models_of_one_family_share_a_lock_and_others_do_not():
    runtime = Runtime(Settings())

    assert runtime.lock_for("chronos2") is runtime.lock_for("granite-ttm-r2")
    assert runtime.lock_for("chronos2") is not runtime.lock_for("mock")


async def test_a_model_is_loaded_by_its_first_forecast(stub: StubProcess):
    call(stub)
    async with httpx.AsyncClient(base_url=stub.url, trust_env=False) as client:
        models = (await client.get("/api/ps")).json()["models"]

    assert [model["name"] for model in models] == [REQUEST["model"]]


async def test_a_caller_who_leaves_does_not_stop_the_inference(stub: StubProcess):
    stub.control(ms_per_call=600)

    with pytest.raises(httpx.ReadTimeout):
        call(stub, timeout=0.1)

    assert await seconds_for(stub, REQUEST) >= 0.7  # what was left of the first, then its own


def test_what_was_asked_is_on_record(stub: StubProcess):
    call(stub)

    assert stub.stats() == {"calls": 1, "faults": {}, "series_per_call": [2]}


@pytest.mark.parametrize("hanging", [1, 2])  # the second one waits for the lock of the first
async def test_hanging_calls_are_let_go_when_the_fault_is_lifted(stub: StubProcess, hanging: int):
    stub.control(fault="hang")
    for _ in range(hanging):
        with pytest.raises(httpx.ReadTimeout):
            call(stub, timeout=0.1)
    stub.control(fault=None)

    assert await seconds_for(stub, REQUEST) < 5


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("reset_mid_body", httpx.ReadError),
        ("reset_first", httpx.ReadError),
        ("cut=20", httpx.RemoteProtocolError),
        ("half_close", httpx.RemoteProtocolError),
        ("black_hole", httpx.ReadTimeout),
    ],
)
def test_connection_that_fails_is_an_error_for_the_caller(
    stub: StubProcess, fault: str, error: type[Exception]
):
    stub.control(fault=fault)

    with pytest.raises(error):
        call(stub, timeout=1)


def test_a_web_page_with_status_200_is_not_json(stub: StubProcess):
    stub.control(fault="wrong_content_type")
    response = call(stub)

    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html"


def test_an_answer_that_comes_twice_is_there_before_the_next_request(stub: StubProcess):
    stub.control(fault="answered_twice")
    target, found = endpoint(stub.url, "/v1/forecast"), b""
    with socket.create_connection((target.host, target.port), timeout=10) as connection:
        connection.sendall(target.request(json.dumps(REQUEST).encode()))
        while found.count(b"HTTP/1.1 200") < 2 or not found.endswith(b"}"):
            found += connection.recv(65_536)

    first, second = (part.split(b"\r\n\r\n")[1] for part in found.split(b"HTTP/1.1 200")[1:])
    assert json.loads(first) == json.loads(second)


def test_endless_chunks_end_only_when_the_caller_leaves(stub: StubProcess):
    stub.control(fault="endless_chunks")
    with (
        httpx.Client(base_url=stub.url, trust_env=False, verify=False) as client,
        client.stream("POST", "/v1/forecast", json=REQUEST) as response,
    ):
        pieces = response.iter_raw()
        found = [len(next(pieces)) for _ in range(1_000)]

    assert max(found) == 1
    stub.control(fault=None)
    assert call(stub).status_code == 200


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("bad_utf8", UnicodeDecodeError),
        ("nan_values=digits", OverflowError),
        ("truncated_json", json.JSONDecodeError),
    ],
)
def test_complete_response_holds_bytes_that_cannot_be_parsed(
    stub: StubProcess, fault: str, error: type[Exception]
):
    stub.control(fault=fault)
    content = call(stub).content

    with pytest.raises(error):
        float(json.loads(content)["forecasts"][0]["quantiles"]["0.1"][-1])


@pytest.mark.parametrize(
    ("arg", "text"), [("null", "null]"), ("literal", "NaN]"), ("infinity", "1e999]")]
)
def test_last_value_of_a_path_is_no_number(stub: StubProcess, arg: str, text: str):
    stub.control(fault=f"nan_values={arg}")

    assert text in call(stub).text


@pytest.mark.parametrize(
    ("fault", "least_s"),
    [("latency=200", 0.2), ("slow_drip=0.3", 0.25), ("byte_drip=1", 0.3), ("late_answer=200", 0.2)],
)
def test_slow_answer_is_complete_but_late(stub: StubProcess, fault: str, least_s: float):
    stub.control(fault=fault)
    started = perf_counter()

    assert call(stub).json()["model"] == "mock"
    assert perf_counter() - started >= least_s


@pytest.mark.parametrize("status", [401, 403, 404, 413, 429, 500, 502, 503])
def test_status_fault_is_a_refusal_and_counted(stub: StubProcess, status: int):
    stub.control(fault=str(status))

    assert call(stub).status_code == status
    assert stub.stats()["faults"] == {str(status): 1}


def test_a_huge_answer_is_streamed_without_a_length(stub: StubProcess):
    stub.control(fault="huge_answer=3")
    response = call(stub)

    assert len(response.content) > 3_000_000
    assert "content-length" not in response.headers


def test_a_gzip_bomb_is_small_on_the_wire(stub: StubProcess):
    stub.control(fault="gzip_bomb=64")
    with (
        httpx.Client(trust_env=False, verify=False) as client,
        client.stream("POST", f"{stub.url}/v1/forecast", json=REQUEST) as response,
    ):
        wire = b"".join(response.iter_raw())

    assert response.headers["content-encoding"] == "gzip"
    assert len(wire) < 100_000
    assert len(gzip.decompress(wire)) > 64_000_000


def test_a_redirect_leads_to_a_place_that_would_answer(stub: StubProcess):
    stub.control(fault="redirect")
    followed = call(stub, follow_redirects=True)

    assert call(stub).status_code == 307
    assert followed.status_code == 200


def test_fault_of_the_command_line_is_in_force():
    with StubProcess("--fault", "429=7") as stub:
        assert call(stub).headers["retry-after"] == "7"
