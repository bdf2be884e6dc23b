import asyncio
from itertools import count
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import RateLimitedError
from runner.types import ForecastRequest
from serve_app.auth.rate_limit import RateLimit, body_steps
from serve_app.http.requests import ForecastBody, series_steps, to_request
from tests.support.bench import EXAMPLE, Bench, example
from tests.support.builders import make_config
from tests.support.fakes import FakeClock
from tests.support.tokens import ALERTS, ALERTS_NEXT, CYCLE, bearer, make_guarded_config

LIMITS = make_config().request
SECURITY = make_guarded_config().security  # 1000 at once, 10 a second
EXAMPLE_STEPS = 68


def left(response) -> int:
    return int(response.headers["ratelimit-remaining"])


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, 32 + 12 * 3),
        ({"horizon_steps": ..., "quantiles": ...}, 32 + 12 * 3),
        ({"x_past": {"a": [0.0] * 32, "b": [0.0] * 32}}, 3 * 32 + 36),
        ({"x_past": {"a": [0.0] * 32}, "x_future": {"a": [0.0] * 12}}, 2 * 32 + 12 * 4),
        ({"y": [0.5, 0.5], "y_ts": ["2026-02-20T11:55:00Z", "2026-02-20T12:00:00Z"]}, 4 + 36),
        ({"horizon_steps": 10**15}, 32 + 512 * 3),
        ({"quantiles": [0.5] * 5000}, 32 + 12 * 21),
    ],
)
def test_request_costs_the_numbers_in_and_out(changes, steps) -> None:
    wire = ForecastBody.model_validate_json(orjson.dumps(example(**changes)))

    assert series_steps(wire, LIMITS) == steps


def test_request_larger_than_what_is_left_is_admitted_once_and_waited_for_afterwards() -> None:
    clock = FakeClock()
    limit = RateLimit(SECURITY, clock)
    limit.admit(999)

    limit.admit(5000)
    with pytest.raises(RateLimitedError) as refused:
        limit.admit(1)

    assert refused.value.retry_after_s == pytest.approx(499.9)
    clock.now += 499.8
    with pytest.raises(RateLimitedError):
        limit.admit(1)
    clock.now += 0.2
    limit.admit(1)


@given(
    st.lists(
        st.tuples(st.floats(0.0, 60.0), st.integers(1, 3000), st.booleans()),
        min_size=1,
        max_size=60,
    )
)
def test_steps_taken_are_at_most_burst_and_refill_and_one_request(requests) -> None:
    clock = FakeClock()
    limit = RateLimit(SECURITY, clock)
    began, taken, largest = clock.now, 0, 0
    for pause_s, steps, has_rest in requests:
        clock.now += pause_s
        try:
            limit.admit(steps)
        except RateLimitedError:
            continue
        rest = steps if has_rest else 0
        limit.spend(rest)
        taken, largest = taken + steps + rest, max(largest, steps + rest)
        assert taken <= 1000 + 10 * (clock.now - began) + largest + 1e-3


async def test_answer_says_what_is_left(guarded: Bench) -> None:
    response = await guarded.post(EXAMPLE, **bearer(ALERTS))

    assert {k: v for k, v in response.headers.items() if k.startswith("ratelimit")} == {
        "ratelimit-limit": "1000",
        "ratelimit-remaining": str(1000 - EXAMPLE_STEPS),
        "ratelimit-reset": "7",
        "ratelimit-policy": "1000;w=100",
    }


@pytest.mark.parametrize("change", [{}, {"market_id": "another"}])
async def test_caller_over_the_limit_is_refused_until_the_retry_time(
    guarded: Bench, change: dict[str, str]
) -> None:
    for _ in range(15):
        assert (await guarded.post(EXAMPLE, **bearer(ALERTS))).status_code == 200
    response = await guarded.post(example(**change), **bearer(ALERTS))

    assert (response.status_code, response.json()["error"]["code"]) == (429, "rate_limited")
    assert response.headers["retry-after"] == "2"  # 1020 of 1000 are taken, 10 come back a second
    assert response.headers["ratelimit-remaining"] == "0"
    assert response.headers["ratelimit-reset"] == "102"
    assert len(guarded.model.requests) == 1
    guarded.clock.now += 2.001
    assert (await guarded.post(EXAMPLE, **bearer(ALERTS))).status_code == 200


async def test_tokens_of_one_name_share_an_allowance_and_others_have_their_own(
    guarded: Bench,
) -> None:
    await guarded.post(EXAMPLE, **bearer(ALERTS))
    same = await guarded.post(EXAMPLE, **bearer(ALERTS_NEXT))
    other = await guarded.http.get("/tsfm/models", headers=bearer(CYCLE))

    assert left(same) == 1000 - 2 * EXAMPLE_STEPS
    assert left(other) == 1000


async def test_body_that_is_refused_costs_its_bytes(guarded: Bench) -> None:
    await guarded.post(b"[" * 6400, **bearer(ALERTS))
    response = await guarded.http.get("/tsfm/models", headers=bearer(ALERTS))

    assert left(response) == 1000 - 200


async def test_batch_costs_the_sum_of_its_requests(guarded: Bench) -> None:
    body = b'{"requests":[%b]}' % b",".join([EXAMPLE] * 3)
    response = await guarded.http.post("/tsfm/forecast/batch", content=body, headers=bearer(CYCLE))

    assert left(response) == 1000 - 3 * EXAMPLE_STEPS


async def test_a_batch_whose_caller_leaves_costs_what_was_read_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guarded, read = Bench(make_guarded_config(burst_steps=30_000)), count(1)

    def reading(*what: Any) -> ForecastRequest:
        if next(read) == 130:  # of more than one chunk of 128: other tasks run in between
            asking.cancel()
        return to_request(*what)

    monkeypatch.setattr("serve_app.http.bodies.forecast.to_request", reading)
    different = [orjson.dumps(example(y=[0.4, i / 1000] * 16)) for i in range(300)]
    body = b'{"requests":[%b]}' % b",".join(different)
    post = guarded.http.post("/tsfm/forecast/batch", content=body, headers=bearer(CYCLE))
    asking = asyncio.ensure_future(post)
    await asyncio.wait([asking])
    response = await guarded.http.get("/tsfm/models", headers=bearer(CYCLE))

    taken = 30_000 - left(response)
    assert asking.cancelled()
    assert body_steps(body) < 130 * EXAMPLE_STEPS <= taken < 300 * EXAMPLE_STEPS


async def test_batch_of_refused_items_costs_its_bytes(guarded: Bench) -> None:
    body = orjson.dumps({"requests": [{"y": "x" * 3168}]})
    response = await guarded.http.post("/tsfm/forecast/batch", content=body, headers=bearer(CYCLE))

    assert list(response.json()["results"][0]) == ["error"]
    assert left(response) == 1000 - 99


async def test_batch_is_refused_as_a_whole_when_nothing_is_left(guarded: Bench) -> None:
    body = b'{"requests":[%b]}' % b",".join([EXAMPLE] * 20)
    first = await guarded.http.post("/tsfm/forecast/batch", content=body, headers=bearer(CYCLE))
    again = await guarded.http.post("/tsfm/forecast/batch", content=body, headers=bearer(CYCLE))

    assert (first.status_code, again.status_code) == (200, 429)
    assert left(first) == 0
