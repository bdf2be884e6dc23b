from typing import Any

import orjson
import pytest

from tests.fuzz.senders import fire
from tests.fuzz.shots import Shot
from tests.support.bench import EXAMPLE, Bench, example
from tests.support.builders import make_config

BAD_BODIES = [
    (b"", 400, "invalid_json", None),
    (b"not json", 400, "invalid_json", None),
    (b"\xff\xfe", 400, "invalid_json", None),
    (b"[" * 2000, 422, "invalid_request", None),
    (EXAMPLE + b"x", 400, "invalid_json", None),
    (EXAMPLE.replace(b"0.41,", b"NaN,", 1), 422, "invalid_request", "y.0"),
    (b"[]", 422, "invalid_request", ""),
]


@pytest.mark.parametrize(("body", "status", "code", "path"), BAD_BODIES)
async def test_bodies_that_are_no_request_are_refused(
    bench: Bench, body: bytes, status: int, code: str, path: str | None
) -> None:
    response = await bench.post(body)

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    if path is not None:
        assert error["detail"][0]["path"] == path


REMEDIES = [
    (example(horizon=5), "horizon: There is no such field; did you mean horizon_steps?"),
    (example(y=[41, 42.5]), "y.0: Probabilities lie between 0 and 1; divide percentages by 100."),
    (example(y=[0.4, 1.01]), "y.1: Probabilities lie between 0 and 1."),
    (
        example(quantiles=[10, 90]),
        "quantiles.0: Levels lie between 0.000001 and 0.999999; 10 % is 0.1.",
    ),
    (example(as_of_ts="soon"), "as_of_ts: Send a time, for example 2026-02-20T12:00:00Z."),
    (
        example(model={"model_name": "cronos"}),
        "No such model; GET /tsfm/models lists the names. Did you mean chronos?",
    ),
    (b'{"market_id": "a",\n}', "The body is not valid JSON at line 2, column 1."),
]


@pytest.mark.parametrize(("body", "message"), REMEDIES)
async def test_message_says_what_to_do(bench: Bench, body: Any, message: str) -> None:
    response = await bench.post(body)

    assert response.json()["error"]["message"] == message


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"market_id": ...}, "market_id"),
    ({"market_id": ""}, "market_id"),
    ({"market_id": "m" * 129}, "market_id"),
    ({"as_of_ts": "2026-02-20T12:00:00"}, "as_of_ts"),
    ({"as_of_ts": 1771588800}, "as_of_ts"),
    ({"as_of_ts": "0001-01-01T00:00:00Z"}, "as_of_ts"),
    ({"as_of_ts": "9999-12-31T23:59:59Z"}, "as_of_ts"),
    ({"freq": "5x"}, "freq"),
    ({"freq": "0m"}, "freq"),
    ({"freq": "9999d"}, "as_of_ts"),
    ({"horizon_steps": 0}, "horizon_steps"),
    ({"horizon_steps": 513}, "horizon_steps"),
    ({"horizon_steps": 2.5}, "horizon_steps"),
    ({"horizon_steps": "12"}, "horizon_steps"),
    ({"horizon_steps": True}, "horizon_steps"),
    ({"quantiles": []}, "quantiles"),
    ({"quantiles": [0.9, 0.1]}, "quantiles.1"),
    ({"quantiles": [0.1, 0.1]}, "quantiles.1"),
    ({"quantiles": [0.0, 0.5]}, "quantiles.0"),
    ({"quantiles": [0.5, 0.9999995]}, "quantiles.1"),
    ({"quantiles": [(i + 1) / 30 for i in range(22)]}, "quantiles"),
    ({"quantiles": ["0.5"]}, "quantiles.0"),
    ({"y": [0.5]}, "y"),
    ({"y": [None, None, 0.5]}, "y"),
    ({"y": [0.5] * 20_001}, "y"),
    ({"y": [0.5, -0.1]}, "y.1"),
    ({"y": [0.5, "0.4"]}, "y.1"),
    ({"y": [0.5, True]}, "y.1"),
    ({"y": [0.5] * 2, "y_ts": ["2026-02-20T12:00:00Z"] * 3}, "y_ts"),
    ({"y": [0.5] * 2, "y_ts": ["2026-02-20T12:00:00Z"] * 2}, "y_ts.1"),
    ({"y": [0.5] * 2, "y_ts": ["2026-02-20T11:50:00Z", "2026-02-20T11:55:00Z"]}, "y_ts"),
    ({"x_past": {"v": [1.0]}}, "x_past.v"),
    ({"x_past": {"v": ["1"]}}, "x_past.v.0"),
    ({"x_past": {f"v{i}": [1.0] * 32 for i in range(17)}}, "x_past"),
    ({"x_future": {"v": [1.0] * 12}}, "x_future.v"),
    ({"x_past": {"v": [1.0] * 32}, "x_future": {"v": [1.0]}}, "x_future.v"),
    ({"transform": {"space": "cube"}}, "transform.space"),
    ({"transform": {"space": "logit", "eps": 0.5}}, "transform.eps"),
    ({"model": {"provider": "other"}}, "model.provider"),
    ({"model": {"provider": "tollama", "params": {"a": [1]}}}, "model.params.a"),
    ({"max_gap_minutes": -1}, "max_gap_minutes"),
    ({"deadline_ms": 0}, "deadline_ms"),
    ({"bands": {"min_interval_width": 0.95}}, "bands.min_interval_width"),
    ({"bands": {"min_interval_ticks": 0}}, "bands.min_interval_ticks"),
    ({"unknown_field": 1}, "unknown_field"),
    ({"conformal": 1}, "conformal"),
    ({"conformal": "true"}, "conformal"),
    ({"transform": {"space": "logit", "eps": 1e-17}}, "transform.eps"),
]


@pytest.mark.parametrize(("changes", "path"), BAD_FIELDS, ids=range(len(BAD_FIELDS)))
async def test_wrong_fields_are_named_and_never_echoed(
    bench: Bench, changes: dict[str, Any], path: str
) -> None:
    response = await bench.post(example(**changes))

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (422, "invalid_request")
    assert [d for d in error["detail"] if d["path"].startswith(path)]
    assert error["message"]
    assert error["request_id"]
    assert bench.model.requests == []


async def test_field_names_of_callers_appear_only_with_safe_characters(bench: Bench) -> None:
    response = await bench.post(example(**{"<script>alert(1)</script>": 1}))

    assert "script" not in response.text
    assert response.json()["error"]["detail"][0]["path"] == "?"


async def test_product_of_points_and_covariates_is_bounded() -> None:
    bench = Bench(make_config(request={"max_cells": 500}))
    response = await bench.post(example(y=[0.5] * 300, x_past={"v": [1.0] * 300}))

    assert response.json()["error"]["detail"][0]["path"] == "y"


@pytest.mark.parametrize("header", ["", "soon", "0", "-5", "nan", "inf"])
async def test_deadline_header_must_be_a_positive_number(bench: Bench, header: str) -> None:
    response = await bench.post(EXAMPLE, **{"X-Request-Deadline-Ms": header})

    assert response.status_code == 422
    assert response.json()["error"]["detail"][0]["path"] == "X-Request-Deadline-Ms"


async def test_deadline_header_is_read_for_bytes_that_are_known_as_well(bench: Bench) -> None:
    await bench.post(EXAMPLE)
    response = await bench.post(EXAMPLE, **{"X-Request-Deadline-Ms": ""})

    assert response.status_code == 422


@pytest.mark.parametrize("chunks", [1, 3])
async def test_body_over_the_limit_is_refused_while_it_streams(chunks: int) -> None:
    bench = Bench(make_config(request={"max_body_bytes": 1000}))
    reply = await fire(bench.app, Shot("/tsfm/forecast", (b" " * 2000,) * chunks))

    assert reply.status == 413
    assert orjson.loads(reply.body)["error"]["code"] == "body_too_large"
    assert b"1000 bytes" in reply.body


async def test_body_that_does_not_end_in_time_is_refused() -> None:
    bench = Bench(make_config(request={"body_timeout_s": 0.01}))
    reply = await fire(bench.app, Shot("/tsfm/forecast", (b"{",), ends=False))

    assert reply.status == 408
    assert orjson.loads(reply.body)["error"]["code"] == "body_timeout"


@pytest.mark.parametrize(
    "path",
    ["/tsfm/forecast", "/tsfm/forecast/batch", "/tsfm/outcomes", "/tsfm/admin/breakers/mock"],
)
async def test_disconnect_while_sending_is_no_error(
    bench: Bench, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    statuses: list[int] = []

    async def send(message: Any) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    await bench.app(scope, receive, send)

    assert statuses == [499]
    assert bench.model.requests == []
    assert caplog.records == []
