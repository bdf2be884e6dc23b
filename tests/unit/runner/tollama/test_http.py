import gzip
from contextlib import aclosing

import httpx
import pytest
from pydantic import SecretStr

from loadtest.stub.process import start_stub
from runner.errors import (
    BadOutputError,
    ConfigError,
    RuntimeFailedError,
    RuntimeUnreachableError,
)
from runner.tollama.http import Answer, RuntimeHttp, is_refused_connection
from tests.support.builders import make_config
from tests.support.recordings import answer, body_of

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


async def seen_request(**changes):
    seen = []

    def handler(request):
        seen.append(request)
        return answer(200, b"{}")

    await ask(handler, **changes)
    return seen[0]


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://127.0.0.1:11435", "http://127.0.0.1:11435/v1/forecast"),
        ("http://127.0.0.1:8000/runtime/", "http://127.0.0.1:8000/runtime/v1/forecast"),
    ],
)
async def test_path_is_added_to_the_base_url(base_url, url):
    request = await seen_request(base_url=base_url)

    assert str(request.url) == url


@pytest.mark.parametrize(("key", "sent"), [(None, None), (SecretStr("k-1"), "Bearer k-1")])
async def test_request_asks_for_plain_json_and_has_the_key_and_added_headers(key, sent):
    headers = (await seen_request(api_key=key)).headers

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

    with start_stub() as stub:
        async with aclosing(RuntimeHttp(BASE, stub.url)) as http:
            answer = await http.post(b"{}", max_bytes=10_000)

    assert answer.status == 400


async def test_cookies_are_not_sent_back():
    seen = []

    def handler(request):
        seen.append(request)
        return answer(200, b"{}", JSON | {"set-cookie": "a=b"})

    async with aclosing(make_client(handler)) as http:
        for _ in range(2):
            await http.post(b"{}", max_bytes=100)

    assert ["cookie" in request.headers for request in seen] == [False, False]


async def test_redirect_is_a_failure_and_is_not_followed():
    calls = []

    def handler(request):
        calls.append(request)
        return answer(307, b"", {"location": "http://elsewhere.example/"})

    with pytest.raises(RuntimeFailedError, match="307"):
        await ask(handler)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("status", "content"),
    [(200, body_of("forecast_two_series")), (400, body_of("error_null_target"))],
)
async def test_answers_and_refusals_are_returned_as_bytes(status, content):
    assert await ask(answering(status, content)) == Answer(status, content)


async def test_too_long_refusal_is_a_refusal_without_its_body():
    assert await ask(answering(400, b"x" * 101), max_bytes=100) == Answer(400, b"")


@pytest.mark.parametrize("media_type", ["Application/JSON; charset=utf-8", "application/json ;x=y"])
async def test_json_media_types_are_accepted(media_type):
    found = await ask(answering(headers={"content-type": media_type}))

    assert found.status == 200


@pytest.mark.parametrize(
    "headers",
    [{"content-type": "application/x-ndjson"}, {}],
    ids=["ndjson", "none"],
)
async def test_answer_of_another_type_is_bad_output(headers):
    with pytest.raises(BadOutputError, match="not JSON"):
        await ask(answering(headers=headers))


async def test_endless_answer_is_stopped_at_the_limit():
    sent = []

    async def endless():
        while True:
            sent.append(1)
            yield b"x" * 10

    reply = httpx.Response(200, content=endless(), headers=JSON)
    with pytest.raises(BadOutputError, match="over 100 bytes"):
        await ask(lambda _: reply, max_bytes=100)
    assert len(sent) == 11
    assert reply.is_closed


async def test_answer_with_a_content_length_over_the_limit_is_not_read():
    async def unread():
        raise AssertionError("it was read")
        yield b""

    def handler(_):
        return httpx.Response(200, content=unread(), headers=JSON | {"content-length": "101"})

    with pytest.raises(BadOutputError, match="over 100 bytes"):
        await ask(handler, max_bytes=100)


async def test_answer_in_very_small_pieces_is_stopped_early():
    sent = []

    async def spaces():
        while True:
            sent.append(1)
            yield b" "

    with pytest.raises(BadOutputError, match="small pieces"):
        await ask(
            lambda _: httpx.Response(200, content=spaces(), headers=JSON),
            max_bytes=10**6,
        )
    assert len(sent) < 300


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
