from typing import Any

import httpx
import orjson
import pytest

from tests.support.bench import Bench
from tests.support.fakes import FakeLearning
from tests.support.learning import band, make_learner, make_seen

ONE = {"market_id": "m-1", "ts": "2026-02-20T12:05:00Z", "value": 0.44}


@pytest.fixture
def learning() -> FakeLearning:
    return FakeLearning()


async def send(learning: FakeLearning | None, body: Any, config=None) -> httpx.Response:
    bench = Bench(config, learning=learning)
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return await bench.http.post("/tsfm/outcomes", content=content)


async def test_outcomes_are_handed_on_and_counted(learning: FakeLearning) -> None:
    learning.unknown = 1
    response = await send(learning, {"outcomes": [ONE, ONE | {"market_id": "m-2"}]})

    assert response.status_code == 200
    assert response.json() == {"accepted": 2, "scored": 1, "unknown": 1, "points": 1}
    assert [(o.market_id, o.y_prob) for o in learning.sent] == [("m-1", 0.44), ("m-2", 0.44)]
    assert learning.sent[0].ts == 1771589100.0


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"value": 1.01}, "outcomes.1.value"),
        ({"value": "0.5"}, "outcomes.1.value"),
        ({"ts": "2026-02-20T12:05:00"}, "outcomes.1.ts"),
        ({"market_id": ""}, "outcomes.1.market_id"),
        ({"price": 0.5}, "outcomes.1.price"),
    ],
)
async def test_wrong_item_is_named_and_nothing_is_scored(
    learning: FakeLearning, change: dict[str, Any], path: str
) -> None:
    response = await send(learning, {"outcomes": [ONE, ONE | change]})

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (422, "invalid_request")
    assert error["detail"][0]["path"] == path
    assert learning.sent == []


async def test_without_learning_the_error_names_the_setting() -> None:
    response = await send(None, {"outcomes": [ONE]})

    assert response.status_code == 422
    assert "conformal.online" in response.json()["error"]["message"]


async def test_unreachable_actor_is_an_error_with_a_retry_time(learning: FakeLearning) -> None:
    learning.gone = True

    response = await send(learning, {"outcomes": [ONE]})

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "outcomes_unavailable"
    assert response.headers["retry-after"] == "2"


async def test_coverage_that_was_learned_is_in_the_status(learning: FakeLearning) -> None:
    learner = make_learner()
    learner.learn([make_seen(0, 0.5, bands=band(0.5, 0.1)), make_seen(1, 0.9)])
    learning.report = learner.report()

    [item] = (await Bench(learning=learning).http.get("/tsfm/status")).json()["coverage"]

    assert (item["source"], item["segment"], item["samples"]) == ("ewma", "all", 1)
    assert (item["target"], item["coverage"], item["breach_rate"]) == (0.8, 0.0, 1.0)
    assert (item["mean_width"], item["calibrated_coverage"]) == (pytest.approx(0.2), None)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[", 400),
        (b'{"outcomes":[],"outcomes":[%b]}' % orjson.dumps(ONE), 422),
        (orjson.dumps({"outcomes": [ONE]}).replace(b"0.44", b"NaN"), 422),
        (b'{"outcomes":[%b,{"value":01}]}' % orjson.dumps(ONE), 400),
        (b'{"outcomes":[{"a":"%b"}]}' % (b"x" * 40_000), 422),
        (b'{"outcomes":[%b]}' % b",".join([b"{}"] * 100_000), 413),
    ],
)
async def test_invalid_list_is_refused_as_a_whole(
    learning: FakeLearning, body: bytes, status: int
) -> None:
    assert (await send(learning, body)).status_code == status
    assert learning.sent == []
