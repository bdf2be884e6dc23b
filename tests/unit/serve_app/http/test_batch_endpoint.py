import asyncio
import gc
from typing import Any

import httpx
import orjson
import pytest

from runner.types import ForecastRequest, ModelAnswer, ModelRequest
from serve_app.http.requests import to_request
from tests.support.bench import Bench, example
from tests.support.builders import make_answer, make_bands, make_config


async def post(bench: Bench, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return await bench.http.post("/tsfm/forecast/batch", content=content, headers=headers)


def market(seed: int, **changes: Any) -> dict[str, Any]:
    y = [0.3 + 0.001 * ((seed * 31 + i * 7) % 100) for i in range(40)]
    return example(**({"market_id": f"m-{seed}", "y": y} | changes))


async def test_results_have_the_order_of_the_requests(bench: Bench) -> None:
    assert (await post(bench, {"requests": []})).json() == {"results": []}
    response = await post(bench, {"requests": [market(i) for i in range(50)]})

    results = response.json()["results"]
    assert response.status_code == 200
    assert [r["ok"]["market_id"] for r in results] == [f"m-{i}" for i in range(50)]


async def test_equal_requests_may_have_width_limits_of_their_own(bench: Bench) -> None:
    requests = [market(0, bands={"min_interval_width": width}) for width in (0.0, 0.4)]
    answers = [r["ok"] for r in (await post(bench, {"requests": requests})).json()["results"]]

    widths = [answer["yhat_q"]["0.9"][0] - answer["yhat_q"]["0.1"][0] for answer in answers]
    assert widths == pytest.approx([0.3, 0.4])
    assert ["interval_widened" in a["meta"]["warnings"] for a in answers] == [False, True]
    assert len(bench.model.requests) == 1


async def test_bad_items_are_errors_for_themselves_alone(bench: Bench) -> None:
    requests: list[Any] = [
        market(0),
        market(1, y=[2.0] * 40),
        market(2, quantiles=[0.9, 0.1]),
        "no object",
        market(4, model={"model_name": "nobody"}),
        market(5, deadline_ms=10.0),
        market(6),
    ]
    results = (await post(bench, {"requests": requests})).json()["results"]

    assert [("ok" in r) for r in results] == [True, False, False, False, False, False, True]
    codes = [r["error"]["code"] for r in results if "error" in r]
    assert codes == ["invalid_request"] * 3 + ["unknown_model", "invalid_request"]
    assert results[1]["error"]["detail"][0]["path"] == "y.0"
    assert results[5]["error"]["detail"][0]["path"] == "deadline_ms"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[]", 422, "invalid_request"),
        ({"requests": 1}, 422, "invalid_request"),
        ({"items": []}, 422, "invalid_request"),
        ({"requests": [], "deadline_ms": -1}, 422, "invalid_request"),
        ({"requests": [{}] * 3}, 413, "batch_too_long"),
        (b" " * 1001, 413, "body_too_large"),
    ],
)
async def test_body_that_is_no_batch_or_over_a_limit_is_refused_as_a_whole(
    body: Any, status: int, code: str
) -> None:
    limits = {"max_batch_requests": 2, "max_batch_body_bytes": 1000}
    response = await post(Bench(make_config(request=limits)), body)

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


async def test_ndjson_gives_a_line_for_each_result_with_its_index(bench: Bench) -> None:
    requests = [market(0), market(1, y=[2.0] * 40), market(2, liquidity_bucket="low")]
    response = await post(bench, {"requests": requests}, accept="application/x-ndjson")

    lines = [orjson.loads(line) for line in response.text.splitlines()]
    assert response.headers["content-type"].startswith("application/x-ndjson")
    assert sorted(line["index"] for line in lines) == [0, 1, 2]
    assert lines[0]["index"] == 1  # refused at once, before anything is computed
    assert {line["index"] for line in lines if "ok" in line} == {0, 2}


async def test_deadline_of_the_batch_can_only_be_tightened(bench: Bench) -> None:
    await post(bench, {"requests": [market(0)], "deadline_ms": 900.0})
    await post(bench, {"requests": [market(1)]}, **{"X-Request-Deadline-Ms": "500"})
    await post(bench, {"requests": [market(2)], "deadline_ms": 1e9})

    assert [r.budget_s for r in bench.model.requests] == pytest.approx([0.78, 0.38, 29.88])


async def test_batch_and_single_share_the_cache(bench: Bench) -> None:
    bench.model.outcome = make_answer(bands=make_bands(horizon=12))
    await bench.post(market(0))
    results = (await post(bench, {"requests": [market(0)]})).json()["results"]

    assert results[0]["ok"]["meta"]["cache_hit"] is True
    assert len(bench.model.requests) == 1


async def test_batches_are_refused_where_single_requests_are_shed() -> None:
    bench = Bench(make_config(overload={"shed_above": 3, "refuse_above": 9}))
    bench.under_way.single = 4
    response = await post(bench, {"requests": [market(0)]})
    single = await bench.post(market(1))

    assert (response.status_code, response.json()["error"]["code"]) == (429, "overloaded")
    assert response.headers["retry-after"] == "1"
    assert single.json()["meta"]["fallback_reason"] == "overloaded"


async def test_a_batch_counts_as_a_request_under_way_until_it_is_answered(bench: Bench) -> None:
    bench.model.gate = asyncio.Event()
    asking = asyncio.ensure_future(post(bench, {"requests": [market(0)]}))
    for _ in range(50):
        await asyncio.sleep(0)
    during = bench.under_way.total
    bench.model.gate.set()
    await asking

    assert (during, bench.under_way.total) == (1, 0)


@pytest.mark.parametrize("place", ["first", "last", "header"])
async def test_a_deadline_that_such_a_batch_cannot_keep_is_refused_before_it_is_parsed(
    bench: Bench, place: str
) -> None:
    body = b'{"requests":[%b,{]}' % b",".join(orjson.dumps(market(i)) for i in range(400))
    bodies = {
        "first": body.replace(b"{", b'{"deadline_ms":1,', 1),
        "last": body[:-1] + b',"deadline_ms":1}',
        "header": body,
    }
    headers = {"X-Request-Deadline-Ms": "1"} if place == "header" else {}
    response = await post(bench, bodies[place], **headers)

    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_request")
    assert "allow that much, or send fewer items" in response.json()["error"]["message"]


async def test_a_deadline_in_an_odd_place_is_refused_once_it_is_read(bench: Bench) -> None:
    items = b",".join(orjson.dumps(market(i)) for i in range(800))
    odd = b'{"requests":[%b],"deadline\\u005fms":1}' % items
    response = await post(bench, odd)

    assert response.status_code == 422
    assert response.json()["error"]["detail"][0]["path"] == "deadline_ms"


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
async def test_a_deadline_too_short_for_so_many_numbers_is_refused_before_the_answer_begins(
    bench: Bench, accept: str
) -> None:
    levels = [i / 22 for i in range(1, 22)]
    wide = [market(i, horizon_steps=512, quantiles=levels) for i in range(100)]
    response = await post(bench, {"requests": wide, "deadline_ms": 20.0}, accept=accept)

    assert response.status_code == 422
    assert response.json()["error"]["detail"][0]["path"] == "deadline_ms"


async def test_many_cached_answers_ahead_do_not_excuse_a_deadline_that_is_too_short(
    bench: Bench,
) -> None:
    await post(bench, {"requests": [market(0)]})
    levels = [i / 22 for i in range(1, 22)]
    wide = [market(i, horizon_steps=512, quantiles=levels) for i in range(100)]
    response = await post(bench, {"requests": [market(0)] * 200 + wide, "deadline_ms": 20.0})

    assert response.status_code == 422


async def test_the_model_is_asked_for_the_first_items_while_the_last_are_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def reading(wire: Any, *how: Any) -> ForecastRequest:
        asked.append(len(bench.model.requests))
        return to_request(wire, *how)

    monkeypatch.setattr("serve_app.http.bodies.forecast.to_request", reading)
    different = [market(i, y=[0.4, i / 1000] * 20) for i in range(300)]
    await post(bench, {"requests": different})

    assert (asked[0], asked[-1]) == (0, 256)


async def test_a_caller_who_leaves_and_reads_no_more_leaves_no_call_under_way(
    bench: Bench,
) -> None:
    """Also without the garbage collector, which may close what is left at any later time."""
    different = [market(i, y=[0.4, i / 1000] * 20) for i in range(200)]
    messages = iter([{"type": "http.request", "body": orjson.dumps({"requests": different})}])

    async def receive() -> Any:
        if (message := next(messages, None)) is not None:
            return message
        await reading_no_more.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body"):
            reading_no_more.set()
            await asyncio.Event().wait()

    def answer(_: ModelRequest) -> ModelAnswer:
        if len(bench.model.requests) == 128:  # the call of the others does not end
            bench.model.gate = asyncio.Event()
        return make_answer(bands=make_bands(horizon=12))

    reading_no_more, bench.model.outcome = asyncio.Event(), answer
    headers = [(b"accept", b"application/x-ndjson")]
    path = "/tsfm/forecast/batch"
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "asgi": {}}
    gc.disable()
    try:
        await bench.app(scope | {"headers": headers}, receive, send)
        for _ in range(5):
            await asyncio.sleep(0)
    finally:
        gc.enable()

    assert bench.model.cancelled == 1


async def test_small_batches_may_have_tight_deadlines(bench: Bench) -> None:
    response = await post(bench, {"requests": [market(i) for i in range(50)], "deadline_ms": 20.0})

    metas = [result["ok"]["meta"] for result in response.json()["results"]]
    assert {meta["fallback_reason"] for meta in metas} == {"deadline_exceeded"}


async def test_batch_is_refused_when_too_many_wait(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.http.batch_admission.AT_ONCE_BYTES", 1)
    monkeypatch.setattr("serve_app.http.batch_admission.WAITING_BYTES", 1)
    bench.model.gate = asyncio.Event()
    asking = [asyncio.ensure_future(post(bench, {"requests": [market(i)]})) for i in range(3)]
    done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    refused = done.pop().result()
    bench.model.gate.set()
    statuses = [(await one).status_code for one in asking]

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    assert refused.json()["error"]["code"] == "overloaded"
    assert statuses == [200, 200, 429]


async def test_item_with_thousands_of_errors_gets_their_number(bench: Bench) -> None:
    item = {str(i): 1 for i in range(2000)}
    results = (await post(bench, {"requests": [item, market(0)]})).json()["results"]

    assert [list(result) for result in results] == [["error"], ["ok"]]
    assert results[0]["error"]["message"].startswith("There are 2003 mistakes")
