import gzip
import json
import pickle
from contextlib import aclosing, nullcontext

import httpx
import pytest
from pydantic import SecretStr

from loadtest.stub.process import StubProcess
from runner.errors import (
    BadOutputError,
    ConfigError,
    ModelNotInstalledError,
    RuntimeCircuitOpenError,
    RuntimeFailedError,
    RuntimeOverloadedError,
    RuntimeRejectedError,
    RuntimeTooLargeError,
    RuntimeUnauthorizedError,
    RuntimeUnreachableError,
)
from runner.tollama.http import (
    Answer,
    RuntimeHttp,
    blamed,
    error_for,
    is_refused_connection,
)
from tests.support.builders import make_config
from tests.support.recordings import FOLDER, answer, body_of, recorded

BASE = make_config().tollama
JSON = {"content-type": "application/json"}
URL = "http://127.0.0.1:11435"


def make_client(handler, base_url=URL, **changes):
    settings = BASE.model_copy(update=changes)
    return RuntimeHttp(settings, base_url, httpx.MockTransport(handler), add_traceparent)


def add_traceparent(request):
    request.headers["traceparent"] = "t"


async def ask(handler, *, max_bytes=10_000, **changes):
    async with aclosing(make_client(handler, **changes)) as http:
        return await http.post(b"{}", max_bytes=max_bytes)


def answering(status=200, content=b"{}", headers=JSON):
    return lambda _: httpx.Response(status, headers=headers, stream=httpx.ByteStream(content))


@pytest.mark.parametrize(
    ("key", "sent", "base_url"),
    [(None, None, URL), (SecretStr("k-1"), "Bearer k-1", f"{URL}/runtime/")],
)
async def test_request_asks_for_plain_json_and_has_the_key_and_added_headers(key, sent, base_url):
    requests = []

    def handler(request):
        requests.append(request)
        return answer(200, b"{}")

    await ask(handler, api_key=key, base_url=base_url)

    headers = requests[0].headers
    assert str(requests[0].url) == f"{base_url.rstrip('/')}/v1/forecast"
    assert headers["content-type"] == headers["accept"] == "application/json"
    assert headers["accept-encoding"] == "identity"
    assert headers.get("authorization") == sent
    assert headers["traceparent"] == "t"


@pytest.mark.parametrize("key", ["", " k", "k\n", "k\u00e9"])
def test_key_that_is_invalid_in_a_header_is_a_config_error_without_the_key(key):
    settings = BASE.model_copy(update={"api_key": SecretStr(key)})

    with pytest.raises(ConfigError, match=r"^TSFM_TOLLAMA__API_KEY: must be printable"):
        RuntimeHttp(settings, URL)


async def test_proxies_of_the_environment_are_not_used(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    with StubProcess() as stub:
        async with aclosing(RuntimeHttp(BASE, stub.url)) as http:
            answer = await http.post(b"{}", max_bytes=10_000)

    assert answer.status == 400


@pytest.mark.parametrize(
    ("status", "content"),
    [(200, body_of("forecast_two_series")), (400, body_of("error_null_target"))],
)
async def test_answers_and_refusals_are_returned_as_bytes(status, content):
    assert await ask(answering(status, content)) == Answer(status, content)


async def test_too_long_refusal_is_a_refusal_without_its_body():
    assert await ask(answering(400, b"x" * 101), max_bytes=100) == Answer(400, b"")


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ({"content-type": "Application/JSON; charset=utf-8"}, True),
        ({"content-type": "application/json ;x=y"}, True),
        ({"content-type": "application/x-ndjson"}, False),
        ({}, False),
    ],
)
async def test_only_answers_of_a_json_type_are_accepted(headers, accepted):
    with nullcontext() if accepted else pytest.raises(BadOutputError, match="not JSON"):
        assert (await ask(answering(headers=headers))).status == 200


@pytest.mark.parametrize(
    ("piece", "max_bytes", "words", "most"),
    [(b"x" * 10, 100, "over 100 bytes", 11), (b" ", 10**6, "small pieces", 300)],
)
async def test_endless_answer_is_stopped_and_closed(piece, max_bytes, words, most):
    sent = []

    async def endless():
        while True:
            sent.append(1)
            yield piece

    reply = httpx.Response(200, content=endless(), headers=JSON)
    with pytest.raises(BadOutputError, match=words):
        await ask(lambda _: reply, max_bytes=max_bytes)
    assert len(sent) <= most
    assert reply.is_closed


async def test_answer_with_a_content_length_over_the_limit_is_not_read():
    async def unread():
        raise AssertionError("it was read")
        yield b""

    def handler(_):
        return httpx.Response(200, content=unread(), headers=JSON | {"content-length": "101"})

    with pytest.raises(BadOutputError, match="over 100 bytes"):
        await ask(handler, max_bytes=100)


async def test_many_pieces_of_a_usual_size_are_read():
    async def pieces():
        for _ in range(2_000):
            yield b" " * 200

    reply = httpx.Response(200, content=pieces(), headers=JSON)
    assert len((await ask(lambda _: reply, max_bytes=10**6)).body) == 400_000


async def test_compressed_answer_is_not_unpacked():
    bomb = gzip.compress(b"0" * 1_000_000)
    headers = JSON | {"content-encoding": "gzip"}

    with pytest.raises(BadOutputError, match="compressed"):
        await ask(answering(content=bomb, headers=headers), max_bytes=len(bomb))


def raising(error):
    def handler(request):
        raise error("the text of the library", request=request)

    return handler


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (httpx.ConnectError, True),
        (httpx.ConnectTimeout, False),
        (httpx.ReadError, False),
        (httpx.RemoteProtocolError, False),
    ],
)
async def test_broken_connection_is_unreachable_and_only_a_refused_one_is_retryable(error, refused):
    with pytest.raises(RuntimeUnreachableError, match="connection") as caught:
        await ask(raising(error))

    assert is_refused_connection(caught.value) is refused
    assert "library" not in str(caught.value)


async def test_incomplete_answer_is_unreachable():
    async def broken():
        yield b'{"forecasts"'
        raise httpx.ReadError("reset")

    with pytest.raises(RuntimeUnreachableError, match="before the answer ended"):
        await ask(lambda _: httpx.Response(200, content=broken(), headers=JSON))


CIRCUIT_OPEN = (
    b'{"detail": "circuit breaker is open \xe2\x80\x94 runner has failed repeatedly; will retry"}'
)
SECRET = "s3cret-from-the-input"


def error_body(detail):
    return json.dumps({"detail": detail, "hint": SECRET}).encode()


@pytest.mark.parametrize(
    ("status", "body", "error", "counts"),
    [
        (400, error_body({"code": "BAD_REQUEST", "message": SECRET}), RuntimeRejectedError, False),
        (400, error_body({"code": "MODEL_UNSUPPORTED"}), ModelNotInstalledError, False),
        (401, error_body(SECRET), RuntimeUnauthorizedError, True),
        (403, error_body(SECRET), RuntimeUnauthorizedError, True),
        (404, error_body(f"model {SECRET} is not installed"), ModelNotInstalledError, False),
        (413, error_body(SECRET), RuntimeTooLargeError, False),
        (429, error_body("rate limit exceeded"), RuntimeOverloadedError, True),
        (502, error_body({"code": "FORECAST_ERROR", "message": SECRET}), RuntimeFailedError, True),
        (503, error_body("runner unavailable"), RuntimeFailedError, True),
        (503, error_body({"code": "DEPENDENCY_MISSING"}), RuntimeFailedError, True),
        (503, CIRCUIT_OPEN, RuntimeCircuitOpenError, False),
        (500, b"<html>", RuntimeFailedError, True),
        (302, b"", RuntimeFailedError, True),
    ],
)
def test_each_status_has_its_error_without_text_of_the_runtime(status, body, error, counts):
    found = error_for(status, {}, body)

    assert type(found) is error
    assert found.counts is counts
    assert SECRET not in str(found)
    assert str(pickle.loads(pickle.dumps(found))) == str(found)


def test_recorded_errors_have_the_expected_class():
    found = {
        file.stem: type(error_for(recorded(file.stem)["status"], {}, body_of(file.stem)))
        for file in FOLDER.glob("error_*.json")
    }

    special = {
        "error_body_too_large": RuntimeTooLargeError,
        "error_unknown_model": ModelNotInstalledError,
        "error_model_not_installed": ModelNotInstalledError,
    }
    assert len(found) == 13
    assert found == {name: special.get(name, RuntimeRejectedError) for name in found}


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({}, 0.0),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "1.5"}, 0.0),
        ({"retry-after": "²"}, 0.0),
        ({"retry-after": "9" * 400}, 0.0),
        ({"retry-after": "Sun, 22 Nov 2026 07:00:09 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read_as_seconds(headers, expected_s):
    assert error_for(429, headers, b"").retry_after_s == expected_s


@pytest.mark.parametrize(("retry_after", "wait_s"), [("2", 16.0), ("40", 40.0)])
def test_open_circuit_of_the_runtime_is_waited_for_at_least_sixteen_seconds(retry_after, wait_s):
    assert error_for(503, {"retry-after": retry_after}, CIRCUIT_OPEN).retry_after_s == wait_s


@pytest.mark.parametrize(
    ("name", "accused"),
    [
        ("error_one_bad_series_fails_all", {1}),
        ("error_null_target", {0}),
        ("error_string_target", {0}),
        ("error_future_covariate_without_past", None),
        ("error_unsorted_quantiles", {0, 1}),
        ("error_duplicate_quantiles", {0, 1}),
        ("error_quantile_as_int", {0, 1}),
        ("error_zero_horizon", {0, 1}),
        ("error_extra_field", {0, 1}),
        ("error_not_json", {0, 1}),
    ],
)
def test_recorded_refusal_names_one_series_or_all_or_none(name, accused):
    assert blamed(body_of(name), 2) == accused


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"detail": "invalid frequency"}',
        error_body(["text"]),
        error_body([{"loc": "body"}]),
        error_body([{"loc": ["body", "series"]}]),
        error_body([{"loc": ["body", "series", 2]}]),
        error_body([{"loc": ["body", "series", -1]}]),
        error_body([{"loc": ["body", "series", True]}]),
        error_body([{"loc": ["body", "series", "1"]}]),
    ],
)
def test_refusal_without_a_valid_position_names_no_series(body):
    assert blamed(body, 2) is None
