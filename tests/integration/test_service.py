"""What a user meets: the service in high-throughput mode against a runtime over real HTTP."""

import asyncio
from collections import Counter
from typing import Any

import orjson
import pytest

from loadtest.http_client import Pool, endpoint
from tests.integration.conftest import PATIENT, Stack, body, until

pytestmark = pytest.mark.integration


async def test_forecast_comes_from_the_model_and_says_so(stack: Stack) -> None:
    meta = await stack.meta(1)

    assert (meta["runtime"], meta["model_name"]) == ("tollama", "fracast-0")
    assert (meta["fallback_used"], meta["circuit_breaker_state"]) == (False, "closed")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("503", "runtime_error"),
        ("404", "model_not_installed"),
        ("401", "runtime_unauthorized"),
        ("429", "runtime_overloaded"),
        ("missing_quantile", "bad_output"),
        ("reset_mid_body", "runtime_unreachable"),
        ("hang=30", "runtime_timeout"),
    ],
)
async def test_failure_of_the_runtime_gets_the_baseline_with_its_reason(
    stack: Stack, fault: str, reason: str
) -> None:
    stack.stub.control(fault=fault)

    meta = await stack.meta(4)

    assert (meta["runtime"], meta["fallback_reason"]) == ("baseline", reason)
    waited = meta["latency_ms"] >= float(PATIENT["TSFM_TOLLAMA__TIMEOUT_S"]) * 1e3
    assert waited == (reason == "runtime_timeout")


async def test_breaker_opens_after_five_failures_and_closes_by_one_probe(stack: Stack) -> None:
    stack.stub.control(fault="503")
    for seed in range(5):
        assert (await stack.meta(100 + seed))["fallback_reason"] == "runtime_error"
    opened = await stack.meta(110)
    calls = stack.stub.stats()["calls"]
    await stack.meta(111)
    assert opened["fallback_reason"] == "breaker_open"
    assert opened["circuit_breaker_state"] == "open"
    assert stack.stub.stats()["calls"] == calls

    stack.stub.reset()

    async def model_is_back() -> bool:
        return not (await stack.meta(112))["fallback_used"]

    await until(model_is_back)
    assert stack.stub.stats()["calls"] == 1


async def test_sixty_four_at_once_become_a_few_calls(stack: Stack) -> None:
    stack.stub.control(ms_per_call=300)
    mock = {"provider": "tollama", "model_name": "mock"}  # takes any number of series a call
    metas = await asyncio.gather(*(stack.meta(200 + i, model=mock) for i in range(64)))

    assert Counter(m["runtime"] for m in metas) == {"tollama": 64}
    # how full calls are is tested in virtual time; here a busy machine spreads the arrivals
    assert stack.stub.stats()["calls"] <= 64 // 4
    assert max(m["batch_size"] for m in metas) >= 8


@pytest.mark.parametrize("fault", ["poisoned", "poisoned_blind"])
async def test_one_poisoned_series_does_not_hurt_the_others(stack: Stack, fault: str) -> None:
    stack.stub.control(fault=f"{fault}=9")
    poisoned = body(300, y=[0.99999] * 64)
    # few enough not to be overload on a slow machine, where the call is made again in parts
    answers = await asyncio.gather(
        stack.forecast(poisoned), *(stack.forecast(body(301 + i)) for i in range(12))
    )

    reasons = Counter(a["meta"]["fallback_reason"] for a in answers)
    assert reasons == {None: 12, "runtime_rejected": 1}
    assert answers[0]["meta"]["fallback_used"] is True


async def test_equal_requests_at_once_cost_one_series(stack: Stack) -> None:
    await asyncio.gather(*(stack.meta(400) for _ in range(20)))

    assert sum(stack.stub.stats()["series_per_call"]) == 1


async def test_work_of_a_caller_that_left_is_not_sent(stack: Stack) -> None:
    stack.stub.control(ms_per_call=2000)  # longer than HAProxy needs to see that a caller left
    holds_the_slot = asyncio.create_task(stack.forecast(body(450)))
    await until(lambda: _under_way(stack, 1))
    leads = asyncio.create_task(stack.forecast(body(452)))  # it is sent when the first has ended
    await until(lambda: _under_way(stack, 2))
    # HAProxy notices who leaves only where head and body came in one piece, as here
    leaver = Pool(endpoint(stack.service.url, "/tsfm/forecast"), 0.1)
    with pytest.raises(TimeoutError):  # while no further call may leave
        await leaver.ask(orjson.dumps(body(451)))
    await asyncio.gather(holds_the_slot, leads)

    assert sum(stack.stub.stats()["series_per_call"]) == 2


async def _under_way(stack: Stack, calls: int) -> bool:
    return bool(stack.stub.stats()["calls"] == calls)


async def test_deadline_of_the_caller_holds_and_the_late_answer_is_kept(stack: Stack) -> None:
    stack.stub.control(fault="latency=2000")
    # a horizon without earlier calls: after slow ones the item would not be sent
    hasty = await stack.meta(500, deadline_ms=300, horizon_steps=6)
    assert stack.stub.stats()["calls"] == 1
    stack.stub.control(fault=None)

    async def kept() -> bool:
        return bool((await stack.meta(500, horizon_steps=6))["cache_hit"])

    assert hasty["fallback_reason"] == "deadline_exceeded"
    assert hasty["latency_ms"] < 1000  # half of the time of the runtime
    await until(kept)
    assert stack.stub.stats()["calls"] == 1


async def test_batch_of_a_cycle_takes_few_calls_and_errs_item_by_item(stack: Stack) -> None:
    stack.stub.control(ms_per_call=100)  # long enough that items wait for a slot on any machine
    requests: list[Any] = [body(600 + i) for i in range(300)]
    requests[7] = body(607, y=[2.0, 3.0])
    response = await stack.http.post("/tsfm/forecast/batch", json={"requests": requests})

    results = response.json()["results"]
    assert response.status_code == 200
    assert [i for i, r in enumerate(results) if "error" in r] == [7]
    assert Counter(r["ok"]["meta"]["runtime"] for r in results if "ok" in r) == {"tollama": 299}
    # the model takes 16 series a call; the first calls are smaller, more of them on a slow machine
    assert stack.stub.stats()["calls"] <= 300 // 12


async def test_board_of_a_watch_is_given_back_to_every_caller(stack: Stack) -> None:
    prices = body(650)["y"]
    answer = (await stack.http.post("/tsfm/check", json=body(650))).json()
    market = {"title": None, "y": prices, "newest_steps": 1, "answer": answer}
    board = {"markets": [market], "checked_ts": "2026-02-20T12:00:00Z"}
    taken = await stack.http.put("/tsfm/board/mine", json=board)
    given = (await stack.http.get("/tsfm/board")).json()

    assert (taken.status_code, taken.json()) == (200, {"markets": 1})
    assert [one["watch"] for one in given["boards"]] == ["mine"]
    assert given["boards"][0]["markets"] == [market]
    known = {"known": given["version"]}
    assert (await stack.http.get("/tsfm/board", params=known)).json()["boards"] is None


async def test_batch_can_be_streamed(stack: Stack) -> None:
    requests = [body(1000 + i) for i in range(40)]
    async with stack.http.stream(
        "POST",
        "/tsfm/forecast/batch",
        json={"requests": requests},
        headers={"accept": "application/x-ndjson"},
    ) as response:
        lines = [orjson.loads(line) async for line in response.aiter_lines()]

    assert sorted(line["index"] for line in lines) == list(range(40))


async def test_errors_are_json_with_the_callers_request_id(stack: Stack) -> None:
    response = await stack.http.post(
        "/tsfm/forecast", content=b"{", headers={"x-request-id": "abc-1"}
    )

    assert response.status_code == 400
    assert response.json()["error"]["request_id"] == "abc-1"
    assert response.headers["x-request-id"] == "abc-1"


async def test_models_to_load_in_advance_are_loaded_and_known(stack: Stack) -> None:
    loaded = (await stack.http.get(f"{stack.stub.url}/api/ps")).json()["models"]
    models = (await stack.http.get("/tsfm/models")).json()["models"]

    assert "sundial-base-128m" in {model["name"] for model in loaded}
    installed = {model["name"] for model in models if model["installed"]}
    assert installed == {"mock", "fracast-0", "sundial-base-128m"}
    assert (await stack.http.get("/readyz")).json()["default_model_installed"] is True


async def test_service_is_ready_while_its_model_is_not(stack: Stack) -> None:
    stack.stub.control(fault="503")
    for seed in range(6):
        await stack.meta(700 + seed)

    assert (await stack.http.get("/healthz")).status_code == 200
    assert (await stack.http.get("/readyz")).json()["status"] == "ready"
