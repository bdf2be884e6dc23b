"""Bodies that are long: the same outcome as in one pass, without one."""

import json
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from runner.errors import InvalidJsonError, InvalidRequestError
from runner.pacer import Pacer
from serve_app.http.bodies import forecast as forecast_body
from serve_app.http.bodies.forecast import parse_forecast
from serve_app.http.requests import AT_ONCE_BYTES, ForecastBody
from tests.support.bench import example
from tests.support.builders import make_config
from tests.support.fakes import FakeClock

LIMITS = make_config().request
TIMES = [f"2026-02-{i // 1440 + 1:02}T{i // 60 % 24:02}:{i % 60:02}:00Z" for i in range(9000)]
LONG = [0.1 + i / 1e6 for i in range(9000)]
GAP = b" " * 120  # the name before it is not found, and its list is read with the rest


async def parse(body: Any) -> ForecastBody:
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    return await parse_forecast(text, LIMITS, Pacer(FakeClock()))


NAME = 'caf\u00e9 "1" \\ ' + "\U0001f600" * 110
LONG_BODIES = [
    orjson.dumps(example(y=LONG)),
    orjson.dumps(example(y=[None, *LONG, None], market_id='a ["y":[ \\ } name')),
    orjson.dumps(example(y=LONG, y_ts=TIMES)),
    orjson.dumps(example(x_past={"a": LONG, "b": LONG, "c]": [1.0]}, x_future={"a": LONG})),
    orjson.dumps(example(y=LONG, quantiles=[0.5], x_past={})),
    json.dumps(example(x_past={NAME: LONG, "b": LONG}), separators=(" , ", " : ")).encode(),
    orjson.dumps(example(y=LONG, x_past={"a": [0.5] * 300})).replace(b'"a":', b'"a"%b:' % GAP),
]


@pytest.mark.parametrize("body", LONG_BODIES, ids=range(len(LONG_BODIES)))
async def test_long_request_is_what_one_pass_makes_of_it(body: bytes) -> None:
    assert len(body) > AT_ONCE_BYTES

    found, expected = await parse(body), ForecastBody.model_validate_json(body)

    assert found.model_dump() == expected.model_dump()


async def test_value_that_stands_twice_is_no_fault_of_ours() -> None:
    body = orjson.dumps(example(x_past={"a": LONG}))

    found = await parse(body[:-1] + b',"x_past":null}')

    assert found.x_past == {"a": LONG}


async def test_parser_is_never_given_more_than_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Watched:
        def __init__(self, model: Any) -> None:
            self._model = model

        def validate_json(self, text: bytes) -> Any:
            seen.append(len(text))
            return self._model.validate_json(text)

    lists = {n: (Watched(model), text) for n, (model, text) in forecast_body._LISTS.items()}
    monkeypatch.setattr(forecast_body, "_LISTS", lists)

    await parse(example(y=LONG, y_ts=TIMES))

    assert max(seen) <= AT_ONCE_BYTES
    assert len(seen) > 10


async def test_name_that_is_no_json_is_refused() -> None:
    body = orjson.dumps(example(x_past={"a": LONG})).replace(b'"a":', b'"\\ud800":')

    with pytest.raises((InvalidRequestError, ValidationError)):
        await parse(body)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"y": [*LONG, "0.5"]}, "y.9000"),
        ({"y": ["", *LONG]}, "y.0"),
        ({"y": [*LONG[:8000], [], *LONG]}, "body"),
        ({"y": LONG * 3}, "y"),
        ({"y": LONG, "y_ts": [*TIMES[:8999], "soon, or later"]}, "y_ts.8999"),
        ({"x_past": {"a": [*LONG, None]}}, "x_past.a.9000"),
        ({"x_future": {"<a>": [*LONG, None]}}, "x_future.?.9000"),
        ({"x_past": {f"c{i}": LONG[:200] for i in range(40)}}, "body"),
        ({"quantiles": LONG}, "body"),
        ({"a": LONG}, "body"),
        ({"market_id": "x" * AT_ONCE_BYTES}, "body"),
        ({"y": LONG, "model": {"params": {str(i): [] for i in range(2000)}}}, "body"),
    ],
)
async def test_first_error_of_a_long_request_is_named(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await parse(example(**changes))

    assert (refused.value.path or "body") == path


@pytest.mark.parametrize("field", ["y", "x_past"])
@pytest.mark.parametrize("value", [b"NaN", b"1e999", b"-Infinity"])
async def test_long_list_with_a_number_that_is_not_finite_is_refused(
    field: str, value: bytes
) -> None:
    body = orjson.dumps(example(y=LONG, x_past={"a": LONG}))
    begin = body.index(b'"%b"' % field.encode())
    text = body[:begin] + body[begin:].replace(b"0.1,", value + b",", 1)

    with pytest.raises(InvalidRequestError) as refused:
        await parse(text)

    assert refused.value.path in ("y.0", "x_past.a.0")


@pytest.mark.parametrize("ending", [b",", b",,1", b", ", b"01", b"\xff", b'"'])
async def test_long_list_that_is_no_json_is_refused(ending: bytes) -> None:
    for values in (LONG, LONG[:1700]):
        text = orjson.dumps(example(y=values, market_id="x" * 40))
        body = text.replace(b'],"transform', b'%b],"transform' % ending)
        with pytest.raises((InvalidJsonError, InvalidRequestError, ValidationError)):
            await parse(body + b" " * AT_ONCE_BYTES)


@pytest.mark.parametrize(
    "changes",
    [{"y": [""] * 500}, {"model": {"params": {str(i): [] for i in range(65)}}}],
    ids=["values", "options"],
)
def test_many_errors_of_a_kind_are_one(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        ForecastBody.model_validate_json(orjson.dumps(example(**changes)))

    assert refused.value.error_count() == 1
