"""What all drills share: how they end, how requests leave, what counts as an answer."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from loadtest.drills.harness import (
    INTERRUPTED,
    Client,
    Sample,
    at_rate,
    breaker_path,
    closed_loop,
    ends_told,
    exit_code,
    expect_200,
    judge,
    judged,
    open_loop,
    options,
    percentile,
    publish,
)
from loadtest.http_client import Pool, endpoint
from loadtest.payloads import Shape, forecast_bodies
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

    with ends_told(broken):
        os.kill(os.getpid(), signal.SIGTERM)

    assert broken == [INTERRUPTED]
    assert exit_code(broken) == 130


def test_a_mistake_of_ours_is_not_hidden() -> None:
    with pytest.raises(KeyError, match="ours"), ends_told([]):
        raise KeyError("ours")


@pytest.mark.parametrize(
    ("broken", "code", "line"), [([], 0, "X_PASS"), (["a", "b"], 1, "X_FAIL: a; b")]
)
def test_the_last_line_and_the_exit_code_say_whether_promises_were_kept(
    broken: list[str], code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged("X", lambda: None, lambda: ("the table", broken)) == code
    assert capsys.readouterr().out == f"the table\n{line}\n"


def test_options_take_their_kind_from_their_default(capsys: pytest.CaptureFixture[str]) -> None:
    known: dict[str, tuple[Any, str]] = {
        "--rate": (5.0, "a second"),
        "--rounds": (3, "of it"),
        "--plain": (False, "mode"),
        "--only": (list[str](), "words"),
        "--write": (Path, "where"),
    }
    given = ["--rate", "2", "--only", "a", "--only", "b", "--write", "x.md"]

    found = options("some", "What is it?\n\nMore.", given, known)

    assert (found.rate, found.rounds, found.plain) == (2.0, 3, False)
    assert (found.only, found.write) == (["a", "b"], Path("x.md"))
    with pytest.raises(SystemExit, match="2"):
        options("some", "", ["--rounds", "many"], known)
    assert "usage: python -m loadtest.drills.some" in capsys.readouterr().err


def test_a_table_is_put_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a <!-- x -->old<!-- /x --> z")

    publish("new", page, "x")

    assert page.read_text() == "a <!-- x -->\nnew\n<!-- /x --> z"


def judged_sample(**meta: Any) -> Sample:
    return judge(0.0, 0.25, 200, forecast(BODY, **meta), SHAPE)


@pytest.mark.parametrize(
    ("meta", "source"),
    [
        ({"runtime": "tollama"}, "model"),
        ({"runtime": "baseline"}, "baseline"),
        ({"runtime": "tollama", "cache_stale": True}, "stale"),
    ],
)
def test_a_sample_says_where_the_bands_came_from(meta: dict[str, Any], source: str) -> None:
    assert judged_sample(**meta).source == source


def test_a_sample_keeps_reason_state_and_time() -> None:
    sample = judged_sample(
        fallback_reason="overloaded", circuit_breaker_state="open", cache_hit=True
    )

    assert (sample.reason, sample.breaker, sample.cached) == ("overloaded", "open", True)
    assert sample.latency_ms == 250.0


def test_a_status_or_bad_bands_are_a_problem() -> None:
    bad = forecast(BODY)
    bad["yhat_q"]["0.1"][0] = 2.0

    assert judge(0, 1, 500, {"error": {}}, SHAPE).problem == "status 500"
    assert judge(0, 1, 500, None, SHAPE).problem == "status 500 of the proxy"
    assert judge(0, 1, 200, bad, SHAPE).problem == "a value is not a probability"


def test_the_breakers_path_leaves_repeats_out_and_is_cut_when_long() -> None:
    states = ["closed", "closed", "", "open", "closed"]
    samples = [Sample(0, 1, breaker=state) for state in states]

    assert breaker_path(samples) == "closed > open > closed"
    assert breaker_path(samples, most=2) == "closed > open (+1)"


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([3.0], 99) == 3.0
    assert percentile([1.0, 9.0], 51) == 9.0


async def test_every_body_is_sent_and_a_connection_that_breaks_is_lost() -> None:
    async def handler(body: bytes) -> bytes:
        broken = orjson.loads(body)["market_id"].endswith("-1")
        return b"" if broken else answer(forecast(body, runtime="tollama"))

    async with serving(handler) as url:
        client = Client(endpoint(url, "/tsfm/forecast"), SHAPE)
        samples = await open_loop(client, forecast_bodies(5, SHAPE), 1000)
        client.close()

    assert sorted(sample.lost for sample in samples) == [False] * 4 + [True]
    assert [s.done_s for s in samples] == sorted(s.done_s for s in samples)


async def test_an_answer_that_does_not_come_is_a_problem_but_not_a_lost_connection() -> None:
    async def silent(_body: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"

    async with serving(silent) as url:
        client = Client(endpoint(url, "/tsfm/forecast"), SHAPE, timeout_s=0.01)
        sample = await client.send(BODY)

    assert (sample.problem, sample.lost) == ("TimeoutError", False)


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


async def test_so_many_are_under_way_and_no_more() -> None:
    under_way, most = 0, 0

    async def ask(body: bytes) -> bytes:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return body

    found = await closed_loop(ask, [b"a", b"b", b"c", b"d"], at_once=2)

    assert sorted(found) == [b"a", b"b", b"c", b"d"]
    assert most == 2


async def test_an_answer_that_is_no_success_stops_a_comparison() -> None:
    async def refuse(_body: bytes) -> bytes:
        return answer({}, 503)

    async with serving(refuse) as url:
        pool = Pool(endpoint(url, "/x"), 5)
        with pytest.raises(RuntimeError, match="status 503"):
            await expect_200(pool, b"a")
        pool.close()
