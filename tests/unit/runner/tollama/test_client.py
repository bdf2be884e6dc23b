import asyncio
import contextlib
import inspect
import json

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import (
    BadOutputError,
    ModelNotInstalledError,
    RuntimeCircuitOpenError,
    RuntimeFailedError,
    RuntimeOverloadedError,
    RuntimeRejectedError,
    RuntimeTimeoutError,
    RuntimeUnauthorizedError,
    RuntimeUnreachableError,
)
from runner.tollama.client import RetryBudget, TollamaRuntime
from runner.tollama.http import RuntimeHttp
from runner.tollama.wire import encode_series
from runner.types import BatchKey, ModelSeries, RuntimeForecast, RuntimeUsage
from tests.support.builders import make_config
from tests.support.fakes import FakeClock
from tests.support.recordings import answer, recorded

KEY = BatchKey("mock", 3, (0.1, 0.5, 0.9))
BASE = make_config().tollama


def make_series(value=0.0, points=4):
    series = ModelSeries(y=np.full(points, value), end_ts=1_771_588_800.0, step_s=300)
    return encode_series(series)


def forecasts_for(request):
    """What tollama's mock model answers: the last value at every level."""
    body = json.loads(request.content)
    return answer(
        200,
        {
            "forecasts": [
                {
                    "id": item["id"],
                    "quantiles": {
                        f"{q:g}": [item["target"][-1]] * body["horizon"] for q in body["quantiles"]
                    },
                }
                for item in body["series"]
            ]
        },
    )


class Daemon:
    """A runtime that gives a list of answers in turn, and valid answers after the last one."""

    def __init__(self, *steps, bad=(), names=False, clock=None, call_s=0.0):
        self.steps = list(steps)
        self.bad = set(bad)
        self.names = names
        self.clock = clock or FakeClock()
        self.call_s = call_s
        self.calls = []
        self.sleeps = []
        self.usage = []  # what the runtime object was told

    async def __call__(self, request):
        self.clock.now += self.call_s
        body = json.loads(request.content)
        self.calls.append([int(item["id"].partition("-")[2]) for item in body["series"]])
        step = self.steps.pop(0) if self.steps else self.play
        if isinstance(step, Exception):
            raise step
        reply = step(request)
        return await reply if inspect.isawaitable(reply) else reply

    def play(self, request):
        items = json.loads(request.content)["series"]
        at_fault = [p for p, item in enumerate(items) if item["target"][-1] in self.bad]
        if not at_fault:
            return forecasts_for(request)
        detail = [{"loc": ["body", "series", p, "target"]} for p in at_fault]
        return answer(400, {"detail": detail if self.names else "bad frequency"})

    async def sleep(self, seconds):
        self.sleeps.append(seconds)
        self.clock.now += seconds


def make_runtime(daemon, **changes):
    settings = BASE.model_copy(update=changes)
    http = RuntimeHttp(settings, "http://host/runtime", httpx.MockTransport(daemon))
    told = daemon.usage.append
    return TollamaRuntime(
        http, settings, sleep=daemon.sleep, clock=daemon.clock, on_usage=lambda *said: told(said)
    )


async def forecast(daemon, values=(0.0,), budget_s=30.0, **changes):
    batch = [make_series(v) for v in values]
    return await make_runtime(daemon, **changes).forecast(KEY, batch, budget_s=budget_s)


def status(code, body=None, headers=None):
    return lambda _: answer(code, {} if body is None else body, headers)


def kinds(outcomes):
    return ["ok" if isinstance(o, RuntimeForecast) else type(o).__name__ for o in outcomes]


async def test_a_batch_is_one_call_and_gives_one_array_per_series():
    daemon = Daemon()

    outcomes = await forecast(daemon, values=[1.0, 2.0, 3.0])

    assert daemon.calls == [[0, 1, 2]]
    assert daemon.usage == [(KEY.model, RuntimeUsage())]
    paths = [outcome.paths for outcome in outcomes]
    np.testing.assert_array_equal(paths, [np.full((3, 3), v) for v in (1.0, 2.0, 3.0)])


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (status(403), RuntimeUnauthorizedError),
        (status(404, recorded("error_unknown_model")["body"]), ModelNotInstalledError),
        (status(500), RuntimeFailedError),
        (status(503, {"detail": "circuit breaker is open; x"}), RuntimeCircuitOpenError),
        (status(200, {"forecasts": None}), BadOutputError),
        (lambda _: answer(200, ["x" * 200_000]), BadOutputError),  # for two series of three steps
        (httpx.ReadError("reset"), RuntimeUnreachableError),
        (httpx.ConnectTimeout("slow"), RuntimeUnreachableError),
    ],
    ids=range(8),
)
async def test_failure_of_the_first_call_fails_the_batch_without_a_retry(step, error):
    daemon = Daemon(step)

    with pytest.raises(error):
        await forecast(daemon, values=[1.0, 2.0])
    assert len(daemon.calls) == 1


@pytest.mark.parametrize(("names", "calls"), [(True, [4, 3]), (False, [4, 2, 2, 1, 1])])
async def test_only_the_bad_series_of_a_refused_batch_is_rejected(names, calls):
    daemon = Daemon(bad=[666.0], names=names)

    outcomes = await forecast(daemon, values=[1.0, 666.0, 2.0, 3.0])

    assert [len(c) for c in daemon.calls] == calls
    assert kinds(outcomes) == ["ok", "RuntimeRejectedError", "ok", "ok"]
    assert [o.paths[0, 0] for o in outcomes if isinstance(o, RuntimeForecast)] == [1, 2, 3]


async def test_fault_of_the_whole_request_causes_no_further_calls():
    daemon = Daemon(status(400, recorded("error_zero_horizon")["body"]))

    outcomes = await forecast(daemon, values=[1.0, 2.0, 3.0])

    assert len(daemon.calls) == 1
    assert kinds(outcomes) == ["RuntimeRejectedError"] * 3


async def hang(request):
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("step", "error"), [(status(502), "RuntimeFailedError"), (hang, "RuntimeTimeoutError")]
)
async def test_failure_while_a_refused_batch_is_split_keeps_earlier_answers(step, error):
    daemon = Daemon(status(400), forecasts_for, step)

    outcomes = await forecast(daemon, values=[1.0, 2.0, 3.0, 4.0], budget_s=0.05)

    assert kinds(outcomes) == ["ok", "ok", error, error]
    assert outcomes[2] is not outcomes[3]  # callers raise them: each collects its own traceback


async def test_failure_before_any_series_was_answered_is_that_of_the_batch():
    with pytest.raises(RuntimeFailedError):
        await forecast(Daemon(status(413), status(500)), values=[1.0, 2.0])


async def test_no_part_is_sent_after_the_callers_deadline():
    daemon = Daemon(bad=[666.0], call_s=0.5)

    outcomes = await forecast(daemon, values=[1.0, 2.0, 666.0, 3.0])

    assert len(daemon.calls) == 3
    assert kinds(outcomes) == ["ok", "ok", "RuntimeRejectedError", "RuntimeRejectedError"]


TOO_LARGE = recorded("error_body_too_large")["body"]


@pytest.mark.parametrize(
    ("steps", "changes", "calls"),
    [
        ([status(413, TOO_LARGE)], {}, [[0, 1, 2, 3], [0, 1], [2, 3]]),
        ([], {"max_request_bytes": 600}, [[0, 1], [2, 3]]),  # our own limit: not sent
    ],
)
async def test_body_over_a_size_limit_is_halved(steps, changes, calls):
    daemon = Daemon(*steps)

    outcomes = await forecast(daemon, values=[1.0, 2.0, 3.0, 4.0], **changes)

    assert daemon.calls == calls
    assert kinds(outcomes) == ["ok"] * 4


@pytest.mark.parametrize(("level", "calls"), [(0.9999994, 1), (0.9999995, 0), (1e-300, 1)])
async def test_level_that_crashes_the_model_process_is_not_sent(level, calls):
    daemon = Daemon()
    key = BatchKey("mock", 3, (min(level, 0.5), max(level, 0.5)))

    with contextlib.suppress(RuntimeRejectedError):
        await make_runtime(daemon).forecast(key, [make_series()], budget_s=1.0)

    assert len(daemon.calls) == calls


REFUSED = httpx.ConnectError("refused")


@pytest.mark.parametrize(
    ("step", "shortest_s", "longest_s"),
    [
        (REFUSED, 0.0, BASE.backoff_base_s),
        (status(429), 0.0, BASE.backoff_base_s),
        (status(429, headers={"retry-after": "1"}), 1.0, 1.0),
    ],
    ids=["connect", "rate", "retry-after"],
)
async def test_retryable_failure_is_retried_once_after_a_wait(step, shortest_s, longest_s):
    daemon = Daemon(step)

    outcomes = await forecast(daemon)

    assert kinds(outcomes) == ["ok"]
    assert len(daemon.calls) == 2
    assert len(daemon.sleeps) == 1
    assert shortest_s <= daemon.sleeps[0] <= longest_s


@pytest.mark.parametrize("retries", [0, 1])
async def test_last_failure_is_raised_when_no_retries_are_left(retries):
    daemon = Daemon(*[REFUSED] * (retries + 1))

    with pytest.raises(RuntimeUnreachableError):
        await forecast(daemon, max_retries=retries)
    assert len(daemon.calls) == retries + 1


@pytest.mark.parametrize(
    ("retry_after", "budget_s", "call_s"), [("2", 30.0, 0.0), ("1", 0.9, 0.0), ("1", 30.0, 0.3)]
)
async def test_retry_after_beyond_the_deadline_is_not_waited_for(retry_after, budget_s, call_s):
    daemon = Daemon(status(429, headers={"retry-after": retry_after}), call_s=call_s)

    with pytest.raises(RuntimeOverloadedError) as caught:
        await forecast(daemon, budget_s=budget_s)
    assert daemon.sleeps == []
    assert caught.value.retry_after_s == float(retry_after)


async def calls_of(runtime, daemon, *steps):
    daemon.steps = list(steps)
    before = len(daemon.calls)
    with contextlib.suppress(RuntimeUnreachableError):
        await runtime.forecast(KEY, [make_series()], budget_s=30.0)
    return len(daemon.calls) - before


async def test_retries_stop_without_tokens_and_start_again_after_successes():
    daemon = Daemon()
    runtime = make_runtime(daemon, retry_tokens=4, retry_token_ratio=0.5)

    outage = [await calls_of(runtime, daemon, REFUSED, REFUSED) for _ in range(20)]
    recovery = [await calls_of(runtime, daemon) for _ in range(8)]
    hiccup = await calls_of(runtime, daemon, REFUSED)

    assert outage == [2] + [1] * 19
    assert recovery == [1] * 8
    assert hiccup == 2


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 20), st.floats(0, 1))
def test_retries_stay_under_the_capacity_and_the_share_of_successes(events, tokens, ratio):
    budget = RetryBudget(tokens=tokens, ratio=ratio)
    retries = 0
    for succeeded in events:
        if succeeded:
            budget.succeeded()
        else:
            budget.failed()
            retries += budget.allows_retry

    assert retries <= tokens / 2 + ratio * sum(events) + 1e-6


async def test_rejected_series_cost_no_retry_tokens():
    daemon = Daemon(bad=[666.0], names=True)
    runtime = make_runtime(daemon, retry_tokens=3, retry_token_ratio=0.0)
    for _ in range(5):
        await runtime.forecast(KEY, [make_series(666.0)], budget_s=30.0)
        daemon.steps = [status(413)]
        await runtime.forecast(KEY, [make_series()], budget_s=30.0)
    daemon.steps = [REFUSED]

    outcomes = await runtime.forecast(KEY, [make_series()], budget_s=30.0)

    assert kinds(outcomes) == ["ok"]


async def drip(request):
    async def pieces():
        while True:
            yield b" " * 110  # shorter pieces, or more of them, are given up for that
            await asyncio.sleep(0)

    return httpx.Response(200, content=pieces(), headers={"content-type": "application/json"})


@pytest.mark.parametrize(("step", "budget_s"), [(hang, 0.01), (drip, 0.002)])
async def test_no_whole_answer_within_the_budget_is_a_timeout_without_a_retry(step, budget_s):
    daemon = Daemon(step)

    with pytest.raises(RuntimeTimeoutError, match=f"within {budget_s:g} s"):
        await forecast(daemon, budget_s=budget_s)
    assert len(daemon.calls) == 1


async def test_timeouts_cost_retry_tokens():
    daemon = Daemon(hang, REFUSED)
    runtime = make_runtime(daemon, retry_tokens=2)
    with pytest.raises(RuntimeTimeoutError):
        await runtime.forecast(KEY, [make_series()], budget_s=0.01)

    with pytest.raises(RuntimeUnreachableError):
        await runtime.forecast(KEY, [make_series()], budget_s=30.0)

    assert daemon.sleeps == []


class Doubling:
    """A runtime on a socket that sends its first answer twice, on the same connection."""

    def __init__(self):
        self.connections = 0
        self.answered = 0

    async def serve(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                request = httpx.Request("POST", "/", content=await reader.readexactly(length))
                content = forecasts_for(request).read()
                raw = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                raw += b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
                writer.write(raw if self.answered else raw + raw)
                self.answered += 1
        writer.close()


async def test_answer_to_another_call_is_refused_and_its_connection_closed():
    doubling = Doubling()
    async with await asyncio.start_server(doubling.serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        http = RuntimeHttp(BASE, url)
        async with contextlib.aclosing(http):
            runtime = TollamaRuntime(http, BASE, sleep=asyncio.sleep, clock=FakeClock())
            outcomes = [
                (await runtime.forecast(KEY, [make_series(value)], budget_s=5.0))[0]
                for value in (1.0, 2.0, 3.0)
            ]

    assert kinds(outcomes) == ["ok", "BadOutputError", "ok"]
    assert isinstance(outcomes[2], RuntimeForecast)
    np.testing.assert_array_equal(outcomes[2].paths, np.full((3, 3), 3.0))
    assert doubling.connections == 2
