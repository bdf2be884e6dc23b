"""Both clients through one script each: they must do the same."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.support.bench import Bench
from tests.support.builders import ROOT
from tests.support.client_service import answer_to
from tsfm_client import (
    AsyncClient,
    Client,
    Forecast,
    RequestRefusedError,
    Retries,
    ServiceError,
    ServiceFailedError,
    UnreachableError,
)
from tsfm_client.clients import MAX_BATCH_BYTES, MAX_BATCH_REQUESTS, parts

AS_OF = "2026-02-20T12:00:00+00:00"
Y = [0.41, 0.42, 0.43]
Use = Callable[[Any], Any]


def refusal(status: int, code: str = "internal_error", **headers: str) -> httpx.Response:
    error = {"code": code, "message": "No.", "request_id": "a1"}
    return httpx.Response(status, json={"error": error}, headers=headers)


class Script:
    """Gives these answers in turn, then valid ones; records requests and pauses."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers: Iterator[httpx.Response | Exception] = iter(answers)
        self.requests: list[httpx.Request] = []
        self.pauses_s: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = next(self.answers, None)
        if isinstance(answer, Exception):
            raise answer
        return answer or answer_to(request)


class Sync:
    """A script for the client of ordinary code."""

    async def run(self, script: Script, use: Use, **settings: Any) -> Any:
        transport = httpx.MockTransport(script)
        with Client(transport=transport, sleep=script.pauses_s.append, **settings) as client:
            result = use(client)
            return list(result) if isinstance(result, Iterator) else result


class Async:
    """The same for the client of asyncio."""

    async def run(self, script: Script, use: Use, **settings: Any) -> Any:
        async def sleep(seconds: float) -> None:
            script.pauses_s.append(seconds)

        transport = httpx.MockTransport(script)
        async with AsyncClient(transport=transport, sleep=sleep, **settings) as client:
            result = use(client)
            if hasattr(result, "__aiter__"):
                return [item async for item in result]
            return await result


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param()


def ask(client: Any, **options: Any) -> Any:
    return client.forecast("m-1", Y, as_of=AS_OF, **options)


async def test_forecast_has_arrays_and_meta(kind: Any) -> None:
    script = Script()
    forecast = await kind.run(script, ask, url="http://there:1/", token="t" * 32)

    assert forecast.path(0.9).tolist() == [0.45, 0.45]
    assert forecast.paths.shape == (2, 3)
    assert forecast.times[1].isoformat() == "2026-02-20T12:10:00+00:00"
    assert forecast.meta.fallback_reason == "too_few_points"
    assert forecast.meta.warnings == ("fallback_too_few_points",)
    assert (forecast.conformal, forecast.conformal_last_step) == (None, None)
    assert str(script.requests[0].url) == "http://there:1/tsfm/forecast"
    assert script.requests[0].headers["authorization"] == "Bearer " + "t" * 32


async def test_address_and_token_come_from_the_environment(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSFM_URL", "http://there:2")
    monkeypatch.setenv("TSFM_TOKEN", "e" * 32)
    script = Script()
    await kind.run(script, ask)

    assert script.requests[0].url.port == 2
    assert script.requests[0].headers["authorization"] == "Bearer " + "e" * 32


@pytest.mark.parametrize("url", ["there", "ftp://there", "http://"])
def test_invalid_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        Client(url)


@pytest.mark.parametrize(
    ("host", "is_here"),
    [("localhost", True), ("127.0.0.1", True), ("[::1]", True), ("there", False)],
)
def test_proxy_of_the_environment_is_used_for_other_machines_only(
    host: str, is_here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    with Client(f"http://{host}:8000") as client:
        transport = client.http._transport_for_url(httpx.URL(client.url))

        assert (transport is client.http._transport) == is_here


@pytest.mark.parametrize(
    ("status", "code", "kind_of_error"),
    [
        (422, "invalid_request", RequestRefusedError),
        (404, "unknown_model", RequestRefusedError),
        (401, "unauthorized", RequestRefusedError),
        (500, "internal_error", ServiceFailedError),
    ],
)
async def test_error_has_code_and_request_id_and_is_not_retried(
    kind: Any, status: int, code: str, kind_of_error: type[ServiceError]
) -> None:
    script = Script(refusal(status, code))
    with pytest.raises(kind_of_error) as caught:
        await kind.run(script, ask)

    assert (caught.value.status, caught.value.code) == (status, code)
    assert str(caught.value) == f"{code}: No. (request a1)"
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    "fail",
    [
        lambda: httpx.ConnectError("refused"),
        lambda: httpx.ReadTimeout("slow"),
        lambda: httpx.RemoteProtocolError("broken"),
        lambda: refusal(503),
        lambda: refusal(429, "overloaded"),
        lambda: httpx.Response(404, text="404 from a proxy"),
        lambda: httpx.Response(200, text="<html>"),
        lambda: httpx.Response(502, json=["not ours"]),
    ],
    ids=["refused", "slow", "broken", "503", "429", "proxy's 404", "page", "foreign 502"],
)
async def test_temporary_failure_is_retried(kind: Any, fail: Callable[[], Any]) -> None:
    script = Script(fail())
    forecast = await kind.run(script, ask)

    assert forecast.market_id == "m-1"
    assert len(script.requests) == 2
    assert len(script.pauses_s) == 1


async def test_retry_after_is_waited_for_unless_it_is_long(kind: Any) -> None:
    soon = Script(refusal(429, "overloaded", **{"retry-after": "2"}))
    late = Script(refusal(429, "rate_limited", **{"retry-after": "60"}))
    odd = Script(refusal(503, **{"retry-after": "Fri, 20 Feb 2026 12:00:00 GMT"}))
    await kind.run(soon, ask)
    await kind.run(odd, ask)
    with pytest.raises(RequestRefusedError) as caught:
        await kind.run(late, ask)

    assert soon.pauses_s == [2.0]
    assert 0.1 <= odd.pauses_s[0] <= 0.3
    assert (caught.value.retry_after_s, late.pauses_s) == (60.0, [])


@pytest.mark.parametrize(
    ("failure", "retries", "options", "error", "calls"),
    [
        ("refused", Retries(attempts=4), {}, UnreachableError, 4),
        ("503", Retries(attempts=9, tokens=4.0, ratio=0.5), {}, ServiceFailedError, 2),
        ("refused", Retries(first_wait_s=1.0), {"deadline_ms": 100}, UnreachableError, 1),
    ],
    ids=["attempts", "budget", "deadline, which is shorter than the pause"],
)
async def test_retries_end_with_the_last_failure(
    kind: Any,
    failure: str,
    retries: Retries,
    options: dict[str, Any],
    error: type[Exception],
    calls: int,
) -> None:
    failures = [refusal(503) if failure == "503" else httpx.ConnectError("refused")] * 9
    script = Script(*failures)
    with pytest.raises(error, match=r":8000 cannot be reached: nothing listens|internal_error: No"):
        await kind.run(script, lambda c: ask(c, **options), retries=retries)

    assert len(script.requests) == calls
    sent = {request.headers.get("x-request-deadline-ms") for request in script.requests}
    assert sent == ({"100"} if options else {None})


async def test_many_are_split_over_batches_and_numbered(kind: Any) -> None:
    script = Script()
    series = {f"m-{i}": [i / 2000, 0.5] for i in range(MAX_BATCH_REQUESTS + 1)}
    items = await kind.run(script, lambda c: c.forecast_many(series, as_of=AS_OF))

    assert [number for number, _ in items] == list(range(MAX_BATCH_REQUESTS + 1))
    assert [f.market_id for _, f in items] == list(series)
    assert len(script.requests) == 2
    assert script.requests[0].headers["accept"] == "application/x-ndjson"


def test_parts_keep_under_the_limit_of_bytes() -> None:
    body = b"x" * (MAX_BATCH_BYTES // 2)

    assert [list(part) for part in parts([body] * 5)] == [[0, 1], [2, 3], [4]]
    assert list(parts([])) == []


async def test_names_may_contain_line_breaks_of_other_alphabets(kind: Any) -> None:
    names = ["a\u2028b", "a\x85b", "a\u2029b", "a\nb"]
    items = await kind.run(
        Script(), lambda c: c.forecast_many(dict.fromkeys(names, Y), as_of=AS_OF)
    )

    assert [forecast.market_id for _, forecast in items] == names


async def test_retry_of_a_broken_batch_has_the_missing_requests_only(kind: Any) -> None:
    bodies = [{"market_id": str(i), "y": Y, "as_of_ts": AS_OF} for i in range(3)]
    whole = answer_to(
        httpx.Request("POST", "http://x/tsfm/forecast/batch", json={"requests": bodies})
    )
    first_line = whole.content.splitlines()[0]
    script = Script(httpx.Response(200, content=first_line))
    items = await kind.run(script, lambda c: c.forecast_many(bodies))

    asked_again = orjson.loads(script.requests[1].content)["requests"]
    assert sorted(number for number, _ in items) == [0, 1, 2]
    assert {f.market_id: number for number, f in items} == {"0": 0, "1": 1, "2": 2}
    assert [body["market_id"] for body in asked_again] == ["1", "2"]


async def test_refused_request_of_a_batch_is_an_error_among_forecasts(kind: Any) -> None:
    error = {"code": "invalid_request", "message": "y: No.", "detail": [{"path": "y"}]}
    line = orjson.dumps({"index": 0, "error": error})
    script = Script(httpx.Response(200, content=line))
    [(number, result)] = await kind.run(script, lambda c: c.forecast_many([{"y": []}]))

    assert number == 0
    assert isinstance(result, RequestRefusedError)
    assert (str(result), result.detail) == ("invalid_request: y: No.", ({"path": "y"},))


async def test_batch_that_is_refused_as_a_whole_raises(kind: Any) -> None:
    script = Script(refusal(413, "body_too_large"))
    with pytest.raises(RequestRefusedError, match="body_too_large"):
        await kind.run(script, lambda c: c.forecast_many([{"y": []}]))


async def test_real_answers_of_the_service_are_read(bench: Bench) -> None:
    async with AsyncClient(transport=bench.http._transport) as client:
        forecast = await client.forecast("m-1", [0.4, 0.5] * 20, as_of=AS_OF, conformal=True)
        [(_, many)] = [i async for i in client.forecast_many({"m-1": [0.4, 0.5] * 20}, as_of=AS_OF)]
        models, status = await client.models(), await client.status()
        state = await client.order_breaker("chronos", "force_open")
        with pytest.raises(RequestRefusedError, match="unknown_model") as caught:
            await client.forecast("m-1", Y, as_of=AS_OF, model="nobody")

    assert (forecast.meta.runtime, forecast.paths.shape) == ("tollama", (12, 3))
    assert forecast.conformal_last_step is not None
    assert forecast.conformal_last_step.target_coverage is None
    assert isinstance(many, Forecast)
    assert "fracast-0" in {model.name for model in models}
    assert status["requests"]["total"] >= 1
    assert state == "forced_open"
    assert caught.value.request_id


ALONE = """
import importlib.abc, sys

class OnlyItsDependencies(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in sys.argv[1:]:
            raise ModuleNotFoundError(f"not among the dependencies: {name}", name=top)

sys.meta_path.insert(0, OnlyItsDependencies())
import httpx, tsfm_client
error = {"code": "c", "message": "m", "request_id": "r"}
refuse = httpx.MockTransport(lambda _: httpx.Response(422, json={"error": error}))
client = tsfm_client.Client(transport=refuse)
try:
    client.forecast("m-1", [0.4, 0.5], as_of="2026-02-20T12:00Z")
except tsfm_client.RequestRefusedError:
    print("refused")
"""


def test_the_client_alone_needs_its_declared_dependencies_and_no_service(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tsfm_client", tmp_path / "tsfm_client")
    project = tomllib.loads((ROOT / "tsfm_client/pyproject.toml").read_text())["project"]
    declared = [re.split("[<>=]", one)[0] for one in project["dependencies"]]
    of_httpx = ("httpcore", "h11", "anyio", "certifi", "idna", "sniffio", "typing_extensions")
    command = [sys.executable, "-c", ALONE, "tsfm_client", *declared, *of_httpx]
    shown = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True)

    assert shown.stdout == "refused\n"
