"""What a client saw: judged answers, the breaker's path, and requests sent at their time."""

from typing import Any

import orjson
import pytest

from loadtest.http_client import endpoint
from loadtest.payloads import Shape, forecast_bodies
from loadtest.samples import Client, Sample, breaker_path, judge, open_loop
from tests.unit.loadtest.fake_service import answer, forecast, serving

SHAPE = Shape(points=40)
BODY = forecast_bodies(1, SHAPE)[0]


def judged(**meta: Any) -> Sample:
    return judge(0.0, 0.25, 200, forecast(BODY, **meta), SHAPE)


@pytest.mark.parametrize(
    ("meta", "source"),
    [
        ({"runtime": "tollama"}, "model"),
        ({"runtime": "baseline"}, "baseline"),
        ({"runtime": "tollama", "cache_stale": True}, "stale"),
    ],
)
def test_a_sample_says_where_the_bands_came_from(meta: dict[str, Any], source: str):
    assert judged(**meta).source == source


def test_a_sample_keeps_reason_state_and_time():
    sample = judged(fallback_reason="overloaded", circuit_breaker_state="open", cache_hit=True)

    assert (sample.reason, sample.breaker, sample.cached) == ("overloaded", "open", True)
    assert sample.latency_ms == 250.0


def test_a_status_or_bad_bands_are_a_problem():
    bad = forecast(BODY)
    bad["yhat_q"]["0.1"][0] = 2.0

    assert judge(0, 1, 500, {"error": {}}, SHAPE).problem == "status 500"
    assert judge(0, 1, 500, None, SHAPE).problem == "status 500 of the proxy"
    assert judge(0, 1, 200, bad, SHAPE).problem == "a value is not a probability"


def test_the_breakers_path_leaves_repeats_out_and_is_cut_when_long():
    states = ["closed", "closed", "", "open", "closed"]
    samples = [Sample(0, 1, breaker=state) for state in states]

    assert breaker_path(samples) == "closed > open > closed"
    assert breaker_path(samples, most=2) == "closed > open (+1)"
    assert breaker_path([]) == ""


async def test_every_body_is_sent_and_a_connection_that_breaks_is_lost():
    async def handler(body: bytes) -> bytes:
        broken = orjson.loads(body)["market_id"].endswith("-1")
        return b"" if broken else answer(forecast(body, runtime="tollama"))

    async with serving(handler) as url:
        client = Client(endpoint(url, "/tsfm/forecast"), SHAPE)
        samples = await open_loop(client, forecast_bodies(5, SHAPE), 1000)
        client.close()

    assert sorted(sample.lost for sample in samples) == [False] * 4 + [True]
    assert [s.done_s for s in samples] == sorted(s.done_s for s in samples)


async def test_an_answer_that_does_not_come_is_a_problem_but_not_a_lost_connection():
    async def silent(_body: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"

    async with serving(silent) as url:
        client = Client(endpoint(url, "/tsfm/forecast"), SHAPE, timeout_s=0.01)
        sample = await client.send(BODY)

    assert (sample.problem, sample.lost) == ("TimeoutError", False)
