"""What all drills share: how they end, how requests leave, what counts as an answer."""

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from loadtest.drills import harness
from loadtest.drills.faults import CASES
from loadtest.drills.harness import (
    INTERRUPTED,
    Client,
    Sample,
    at_rate,
    early_end,
    exit_code,
    judge,
    judged,
    open_loop,
    selected,
)
from loadtest.payloads import Shape, batch_body, forecast_bodies
from tests.unit.loadtest.fake_service import answer, forecast, serving

SHAPE = Shape(points=40)
BODY = forecast_bodies(1, SHAPE)[0]


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("error", [RuntimeError, OSError, ValueError])
def test_what_ends_a_drill_is_told_in_one_line_and_its_log_goes_to_stderr(
    error: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    def drill() -> None:
        raise error("not ready\n| the log")

    code = judged("X", drill, lambda: ("the table", ["too slow"]))

    assert code == 1
    assert capsys.readouterr() == ("the table\nX_FAIL: not ready\n", "| the log\n")


def test_sigterm_ends_a_drill_as_an_interruption() -> None:
    broken: list[str] = []

    with early_end(broken):
        os.kill(os.getpid(), signal.SIGTERM)

    assert broken == [INTERRUPTED]
    assert exit_code(broken) == 130


@pytest.mark.parametrize(
    ("broken", "code", "line"), [([], 0, "X_PASS"), (["a", "b"], 1, "X_FAIL: a; b")]
)
def test_the_last_line_and_the_exit_code_say_whether_promises_were_kept(
    broken: list[str], code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged("X", lambda: None, lambda: ("the table", broken)) == code
    assert capsys.readouterr().out == f"the table\n{line}\n"


def test_only_that_matches_nothing_ends_the_drill_with_all_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        selected("FAULTS", CASES, ["flood"])

    assert "FAULTS_FAIL: no name contains flood; there are: no fault, " in capsys.readouterr().out
    assert [case.name for case in selected("FAULTS", CASES, ["HANG"])] == ["hang"]
    assert selected("FAULTS", CASES, []) == [*CASES]


@pytest.mark.parametrize(
    ("meta", "source"),
    [
        ({"runtime": "tollama"}, "model"),
        ({"runtime": "baseline"}, "baseline"),
        ({"runtime": "tollama", "cache_stale": True}, "stale"),
    ],
)
def test_sample_says_which_source_answered(meta: dict[str, Any], source: str) -> None:
    meta |= {"fallback_reason": "overloaded", "circuit_breaker_state": "open", "cache_hit": True}

    sample = judge(0.0, 0.25, 200, forecast(BODY, **meta), SHAPE)

    assert (sample.source, sample.reason, sample.breaker) == (source, "overloaded", "open")
    assert (sample.cached, sample.latency_ms) == (True, 250.0)


def test_a_status_or_bad_bands_are_a_problem() -> None:
    bad = forecast(BODY)
    bad["yhat_q"]["0.1"][0] = 2.0

    assert judge(0, 1, 500, {"error": {"code": "internal"}}, SHAPE).problem == "status 500"
    assert judge(0, 1, 500, None, SHAPE).problem == "status 500 of the proxy"
    assert judge(0, 1, 200, bad, SHAPE).problem == "a value is not a probability"


async def test_every_body_is_sent_and_a_connection_that_breaks_is_lost() -> None:
    async def handler(body: bytes) -> bytes:
        broken = orjson.loads(body)["market_id"].endswith("-1")
        return b"" if broken else answer(forecast(body, runtime="tollama"))

    async with serving(handler) as url:
        client = Client(url, SHAPE)
        samples = await open_loop(client, forecast_bodies(5, SHAPE), 1000)
        client.close()

    assert sorted(sample.lost for sample in samples) == [False] * 4 + [True]
    assert [s.done_s for s in samples] == sorted(s.done_s for s in samples)


async def test_every_item_of_a_batch_has_a_sample_refused_or_not() -> None:
    async def handler(body: bytes) -> bytes:
        requests = orjson.loads(body)["requests"]
        if len(requests) > 2:
            return answer({"error": {"code": "overloaded"}}, 503)
        return answer({"results": [{"ok": forecast(orjson.dumps(one))} for one in requests]})

    bodies = forecast_bodies(3, SHAPE)
    async with serving(handler) as url:
        client = Client(url, SHAPE)
        answered = await client.send_any(batch_body(bodies[:2]), "batch", 2)
        refused = await client.send_any(batch_body(bodies), "batch", 3)
        client.close()

    assert [(one.problem, one.source) for one in answered] == [(None, "baseline")] * 2
    assert [one.problem for one in refused] == ["status 503"] * 3
    assert client.samples == [*answered, *refused]


async def test_the_check_of_a_batch_does_not_delay_other_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def handler(body: bytes) -> bytes:
        requests = orjson.loads(body)["requests"]
        return answer({"results": [{"ok": forecast(orjson.dumps(one))} for one in requests]})

    loop, turns = asyncio.get_running_loop(), []

    def slow(*args: Any) -> Sample:
        turns.append(asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "turn"), loop).result(10))
        return judge(*args)

    monkeypatch.setattr(harness, "judge", slow)
    async with serving(handler) as url:
        client = Client(url, SHAPE)
        await client.send_any(batch_body(forecast_bodies(2, SHAPE)), "batch", 2)
        client.close()

    assert turns == ["turn"] * 2


async def test_requests_leave_at_their_rate_whatever_became_of_the_others() -> None:
    started, release = [], asyncio.Event()

    async def start(number: int) -> None:
        started.append(number)
        if number == 4:
            release.set()
        await release.wait()

    async with asyncio.timeout(10):
        await at_rate(1000, start, lambda number: number < 5)

    assert started == [0, 1, 2, 3, 4]
