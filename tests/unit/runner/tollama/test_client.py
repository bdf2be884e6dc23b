import asyncio
import contextlib
import inspect
import json

import httpx
import numpy as np
import pytest

from runner.errors import (
    BadOutputError,
    ModelNotInstalledError,
    RuntimeCircuitOpenError,
    RuntimeFailedError,
    RuntimeOverloadedError,
    RuntimeRejectedError,
    RuntimeTimeoutError,
    RuntimeTooLargeError,
    RuntimeUnauthorizedError,
    RuntimeUnreachableError,
)
from runner.tollama.client import TollamaRuntime
from runner.tollama.http import RuntimeHttp
from runner.types import BatchKey, ModelSeries
from tests.support.builders import make_config
from tests.support.fakes import FakeClock
from tests.support.recordings import answer, body_of, recorded

KEY = BatchKey("mock", 3, (0.1, 0.5, 0.9))
BASE = make_config().tollama
SETTINGS = {
    "timeout_s": 1.2,
    "max_retries": 1,
    "backoff_base_s": 0.05,
    "backoff_max_s": 0.2,
    "retry_tokens": 10,
    "retry_token_ratio": 0.1,
    "max_request_bytes": 9_000_000,
    "max_response_bytes": 1_000_000,
    "api_key": None,
}


def make_series(value=0.0, points=4):
    return ModelSeries(y=np.full(points, value), end_ts=1_771_588_800.0, step_s=300)


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
    """A runtime that plays a script: each call takes the next step, then all is well."""

    def __init__(self, *steps, bad=(), names=False, clock=None, call_s=0.0):
        self.steps = list(steps)
        self.bad = set(bad)
        self.names = names
        self.clock = clock or FakeClock()
        self.call_s = call_s
        self.calls = []
        self.sleeps = []

    async def __call__(self, request):
        self.clock.now += self.call_s
        body = json.loads(request.content)
        self.calls.append([item["id"] for item in body["series"]])
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
    settings = BASE.model_copy(update=SETTINGS | changes)
    http = RuntimeHttp(settings, "http://host/runtime", httpx.MockTransport(daemon))
    return TollamaRuntime(
        http, settings, sleep=daemon.sleep, clock=daemon.clock, new_mark=lambda: "s"
    )


async def forecast(daemon, values=(0.0,), budget_s=30.0, **changes):
    batch = [make_series(v) for v in values]
    return await make_runtime(daemon, **changes).forecast(KEY, batch, budget_s=budget_s)


def status(code, body=None, headers=None):
    return lambda _: answer(code, {} if body is None else body, headers)


def kinds(outcomes):
    return ["ok" if isinstance(o, np.ndarray) else type(o).__name__ for o in outcomes]


async def test_one_call_carries_the_batch_and_gives_one_array_per_series():
    daemon = Daemon()

    outcomes = await forecast(daemon, values=[1.0, 2.0, 3.0])

    assert daemon.calls == [["s0", "s1", "s2"]]
    np.testing.assert_array_equal(outcomes, [np.full((3, 3), v) for v in (1.0, 2.0, 3.0)])


async def test_recorded_answer_is_read():
    daemon = Daemon(lambda _: answer(200, recorded("forecast_two_series")["body"]))

    outcomes = await forecast(daemon, values=[-0.15, -0.05])

    np.testing.assert_array_equal(outcomes, [np.full((3, 3), -0.15), np.full((3, 3), -0.05)])


async def test_batch_without_a_series_that_may_travel_needs_no_call():
    daemon = Daemon()

    outcomes = await forecast(daemon, values=[np.nan, np.inf])

    assert daemon.calls == []
    assert kinds(outcomes) == ["RuntimeRejectedError"] * 2


async def test_empty_batch_gives_nothing():
    assert await forecast(Daemon(), values=[]) == []


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (status(401), RuntimeUnauthorizedError),
        (status(403), RuntimeUnauthorizedError),
        (status(404, recorded("error_unknown_model")["body"]), ModelNotInstalledError),
        (status(400, {"detail": {"code": "MODEL_UNSUPPORTED"}}), ModelNotInstalledError),
        (status(500), RuntimeFailedError),
        (status(502), RuntimeFailedError),
        (status(503, {"detail": "runner unavailable"}), RuntimeFailedError),
        (status(503, {"detail": "circuit breaker is open; x"}), RuntimeCircuitOpenError),
        (status(302), RuntimeFailedError),
        (status(418), RuntimeFailedError),
        (status(200, {"forecasts": None}), BadOutputError),
        (lambda _: answer(200, b"hello", {"content-type": "text/plain"}), BadOutputError),
        (lambda _: answer(200, ["x" * 200_000]), BadOutputError),  # for two series of three steps
        (httpx.ReadError("reset"), RuntimeUnreachableError),
        (httpx.ConnectTimeout("slow"), RuntimeUnreachableError),
    ],
    ids=range(15),
)
async def test_failure_of_the_first_call_is_the_batchs_and_is_not_tried_again(step, error):
    daemon = Daemon(step)

    with pytest.raises(error):
        await forecast(daemon, values=[1.0, 2.0])
    assert len(daemon.calls) == 1


@pytest.mark.parametrize(
    ("names", "calls"),
    [(True, [4, 3]), (False, [4, 2, 2, 1, 1])],
    ids=["named", "not named"],
)
async def test_poisoned_series_is_rejected_alone(names, calls):
    daemon = Daemon(bad=[666.0], names=names)

    outcomes = await forecast(daemon, values=[1.0, 666.0, 2.0, 3.0])

    assert [len(c) for c in daemon.calls] == calls
    assert kinds(outcomes) == ["ok", "RuntimeRejectedError", "ok", "ok"]
    assert [o[0, 0] for o in outcomes if isinstance(o, np.ndarray)] == [1, 2, 3]


async def test_recorded_refusal_takes_out_the_series_it_names():
    daemon = Daemon(status(400, recorded("error_one_bad_series_fails_all")["body"]))

    outcomes = await forecast(daemon, values=[1.0, 2.0, 3.0])

    assert daemon.calls == [["s0", "s1", "s2"], ["s0", "s2"]]
    assert kinds(outcomes) == ["ok", "RuntimeRejectedError", "ok"]


@pytest.mark.parametrize("name", ["error_zero_horizon", "error_unsorted_quantiles"])
async def test_fault_of_the_whole_request_is_not_searched_for(name):
    daemon = Daemon(status(400, recorded(name)["body"]))

    outcomes = await forecast(daemon, values=[1.0, 2.0, 3.0])

    assert len(daemon.calls) == 1
    assert kinds(outcomes) == ["RuntimeRejectedError"] * 3


async def test_failure_while_a_refused_batch_is_taken_apart_leaves_what_is_known():
    daemon = Daemon(status(400), forecasts_for, status(502))

    outcomes = await forecast(daemon, values=[1.0, 2.0, 3.0, 4.0])

    assert kinds(outcomes) == ["ok", "ok", "RuntimeFailedError", "RuntimeFailedError"]


async def test_no_part_is_sent_once_the_callers_patience_is_over():
    daemon = Daemon(bad=[666.0], call_s=0.5)

    outcomes = await forecast(daemon, values=[1.0, 2.0, 666.0, 3.0])

    assert len(daemon.calls) == 3
    assert kinds(outcomes) == ["ok", "ok", "RuntimeRejectedError", "RuntimeRejectedError"]


async def test_recorded_size_refusal_halves_the_batch():
    daemon = Daemon(status(413, recorded("error_body_too_large")["body"]))

    outcomes = await forecast(daemon, values=[1.0, 2.0, 3.0])

    assert daemon.calls == [["s0", "s1", "s2"], ["s0"], ["s1", "s2"]]
    assert kinds(outcomes) == ["ok"] * 3


async def test_single_series_the_runtime_finds_too_large_is_its_own_error():
    outcomes = await forecast(Daemon(status(413)))

    assert isinstance(outcomes[0], RuntimeTooLargeError)


async def test_body_over_our_own_limit_is_halved_without_being_sent():
    daemon = Daemon()

    outcomes = await forecast(daemon, values=[1.0, 2.0, 3.0, 4.0], max_request_bytes=500)

    assert daemon.calls == [["s0", "s1"], ["s2", "s3"]]
    assert kinds(outcomes) == ["ok"] * 4


@pytest.mark.parametrize(("level", "calls"), [(0.9999994, 1), (0.9999995, 0), (1e-300, 1)])
async def test_level_that_would_crash_the_runtimes_model_process_is_not_sent(level, calls):
    daemon = Daemon()
    key = BatchKey("mock", 3, (min(level, 0.5), max(level, 0.5)))

    with contextlib.suppress(RuntimeRejectedError):
        await make_runtime(daemon).forecast(key, [make_series()], budget_s=1.0)

    assert len(daemon.calls) == calls


REFUSED = httpx.ConnectError("refused")


@pytest.mark.parametrize("step", [REFUSED, status(429)], ids=["connect", "rate"])
async def test_what_the_contract_calls_retryable_is_tried_once_more_after_a_jittered_wait(step):
    daemon = Daemon(step)

    outcomes = await forecast(daemon)

    assert kinds(outcomes) == ["ok"]
    assert len(daemon.calls) == 2
    assert len(daemon.sleeps) == 1
    assert 0 <= daemon.sleeps[0] <= SETTINGS["backoff_base_s"]


async def test_waits_are_spread_over_the_whole_interval_and_grow_to_their_maximum():
    daemon = Daemon()
    runtime = make_runtime(daemon, max_retries=4, retry_token_ratio=1.0, timeout_s=1000)
    for _ in range(60):
        daemon.steps = [status(429)] * 4
        await runtime.forecast(KEY, [make_series()], budget_s=1000)
        for _ in range(4):
            await runtime.forecast(KEY, [make_series()], budget_s=1000)
    first, later = daemon.sleeps[::4], daemon.sleeps[3::4]

    assert min(first) < 0.02
    assert 0.03 < max(first) <= 0.05
    assert 0.1 < max(later) <= 0.2


async def test_second_failure_is_given_to_the_caller():
    daemon = Daemon(REFUSED, REFUSED)

    with pytest.raises(RuntimeUnreachableError):
        await forecast(daemon)
    assert len(daemon.calls) == 2


async def test_without_retries_the_first_failure_counts():
    daemon = Daemon(REFUSED)

    with pytest.raises(RuntimeUnreachableError):
        await forecast(daemon, max_retries=0)
    assert len(daemon.calls) == 1


async def test_runtimes_wish_to_wait_is_honoured_when_the_patience_allows():
    daemon = Daemon(status(429, headers={"retry-after": "1"}))

    await forecast(daemon)

    assert daemon.sleeps == [1.0]


@pytest.mark.parametrize(
    ("wish", "budget_s", "call_s"), [("2", 30.0, 0.0), ("1", 0.9, 0.0), ("1", 30.0, 0.3)]
)
async def test_wish_that_ends_after_the_patience_is_not_waited_for(wish, budget_s, call_s):
    daemon = Daemon(status(429, headers={"retry-after": wish}), call_s=call_s)

    with pytest.raises(RuntimeOverloadedError) as caught:
        await forecast(daemon, budget_s=budget_s)
    assert daemon.sleeps == []
    assert caught.value.retry_after_s == float(wish)


async def calls_of(runtime, daemon, *steps):
    daemon.steps = list(steps)
    before = len(daemon.calls)
    with contextlib.suppress(RuntimeUnreachableError):
        await runtime.forecast(KEY, [make_series()], budget_s=30.0)
    return len(daemon.calls) - before


async def test_retries_stop_when_their_tokens_are_spent_and_come_back_with_successes():
    daemon = Daemon()
    runtime = make_runtime(daemon, retry_tokens=4, retry_token_ratio=0.5)

    outage = [await calls_of(runtime, daemon, REFUSED, REFUSED) for _ in range(3)]
    recovery = [await calls_of(runtime, daemon) for _ in range(8)]
    hiccup = await calls_of(runtime, daemon, REFUSED)

    assert outage == [2, 1, 1]
    assert recovery == [1] * 8
    assert hiccup == 2


async def test_series_at_fault_do_not_cost_retry_tokens():
    daemon = Daemon(bad=[666.0], names=True)
    runtime = make_runtime(daemon, retry_tokens=3, retry_token_ratio=0.0)
    for _ in range(5):
        await runtime.forecast(KEY, [make_series(666.0)], budget_s=30.0)
        daemon.steps = [status(413)]
        await runtime.forecast(KEY, [make_series()], budget_s=30.0)
    daemon.steps = [REFUSED]

    outcomes = await runtime.forecast(KEY, [make_series()], budget_s=30.0)

    assert kinds(outcomes) == ["ok"]


async def hang(request):
    await asyncio.Event().wait()


async def test_silent_runtime_is_a_timeout_at_the_end_of_the_budget_and_is_not_tried_again():
    daemon = Daemon(hang)

    with pytest.raises(RuntimeTimeoutError, match=r"within 0\.01 s"):
        await forecast(daemon, budget_s=0.01)
    assert len(daemon.calls) == 1


async def test_answer_that_drips_is_a_timeout_although_every_read_is_quick():
    async def drip():
        while True:
            yield b" " * 110  # shorter pieces, or more of them, are given up for that
            await asyncio.sleep(0)

    daemon = Daemon(
        lambda _: httpx.Response(200, content=drip(), headers={"content-type": "application/json"})
    )

    with pytest.raises(RuntimeTimeoutError):
        await forecast(daemon, budget_s=0.002)


async def test_timeouts_use_up_retry_tokens():
    daemon = Daemon(hang, REFUSED)
    runtime = make_runtime(daemon, retry_tokens=2)
    with pytest.raises(RuntimeTimeoutError):
        await runtime.forecast(KEY, [make_series()], budget_s=0.01)

    with pytest.raises(RuntimeUnreachableError):
        await runtime.forecast(KEY, [make_series()], budget_s=30.0)

    assert daemon.sleeps == []


async def test_timeout_while_a_refused_batch_is_taken_apart_leaves_what_is_known():
    daemon = Daemon(status(400), forecasts_for, hang)

    outcomes = await forecast(daemon, values=[1.0, 2.0, 3.0, 4.0], budget_s=0.05)

    assert kinds(outcomes) == ["ok", "ok", "RuntimeTimeoutError", "RuntimeTimeoutError"]


async def test_cancelled_caller_is_cancelled_and_not_answered():
    called = asyncio.Event()

    async def call_and_hang(request):
        called.set()
        await hang(request)

    task = asyncio.create_task(forecast(Daemon(call_and_hang)))
    await called.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_params_travel_as_options():
    bodies = []

    def keep(request):
        bodies.append(json.loads(request.content))
        return forecasts_for(request)

    key = BatchKey("mock", 3, (0.5,), (("num_samples", 20),))
    await make_runtime(Daemon(keep)).forecast(key, [make_series()], budget_s=1.0)

    assert bodies[0]["options"] == {"num_samples": 20}


class Desk:
    """A runtime that answers questions about itself."""

    def __init__(self, reply):
        self.reply = reply
        self.paths = []
        self.clock = FakeClock()
        self.sleep = asyncio.sleep

    async def __call__(self, request):
        self.paths.append(request.url.path)
        if self.reply is None:
            await asyncio.Event().wait()
        return self.reply


def recorded_answer(name):
    return answer(200, body_of(name))


async def test_living_runtime_is_healthy():
    desk = Desk(recorded_answer("health_live"))

    assert await make_runtime(desk).is_healthy(timeout_s=1.0)
    assert desk.paths == ["/runtime/v1/health"]


@pytest.mark.parametrize(
    "reply", [None, answer(503, {}), answer(400, {})], ids=["silent", "503", "400"]
)
async def test_runtime_without_a_good_answer_is_not_healthy(reply):
    assert not await make_runtime(Desk(reply)).is_healthy(timeout_s=0.01)


async def test_installed_models_are_listed_by_runtime_name():
    desk = Desk(recorded_answer("tags"))

    assert await make_runtime(desk).installed_models(timeout_s=1.0) == ("mock",)
    assert desk.paths == ["/runtime/api/tags"]


@pytest.mark.parametrize("body", [{}, [], {"models": [{}]}, {"models": 3}])
async def test_unreadable_list_of_models_is_bad_output(body):
    with pytest.raises(BadOutputError, match="list of models"):
        await make_runtime(Desk(answer(200, body))).installed_models(timeout_s=1.0)


async def test_rejection_says_nothing_of_what_was_sent():
    daemon = Daemon(status(400, recorded("error_one_bad_series_fails_all")["body"]))

    outcomes = await forecast(daemon, values=[1.0, 2.0])

    assert isinstance(outcomes[1], RuntimeRejectedError)
    assert str(outcomes[1]) == "runtime_rejected: the runtime refused it"


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


async def test_answer_to_another_call_is_never_taken_and_its_connection_is_given_up():
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
    np.testing.assert_array_equal(outcomes[2], np.full((3, 3), 3.0))
    assert doubling.connections == 2
