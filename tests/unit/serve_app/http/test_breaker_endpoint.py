import logging
from typing import Any

import orjson
import pytest

from runner.types import BreakerCommand, BreakerState, FallbackReason, ModelFailure
from tests.support.bench import EXAMPLE, Bench

ROUTE = "/tsfm/admin/breakers/{model}"


async def order(bench: Bench, model: str, body: Any, **headers: str) -> tuple[int, Any]:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    given = {"content-type": "application/json"} | headers
    response = await bench.http.post(ROUTE.format(model=model), content=content, headers=given)
    return response.status_code, response.json()


@pytest.mark.parametrize(
    ("action", "command", "state"),
    [
        ("force_open", BreakerCommand.FORCE_OPEN, "forced_open"),
        ("force_closed", BreakerCommand.FORCE_CLOSED, "forced_closed"),
        ("reset", BreakerCommand.RESET, "closed"),
    ],
)
async def test_order_reaches_the_breaker_of_the_model_meant_and_says_its_state(
    bench: Bench, action: str, command: BreakerCommand, state: str
) -> None:
    found = await order(bench, "chronos", {"action": action})

    assert found == (200, {"model": "fracast-0", "state": state})
    assert bench.operator.commands == [("fracast-0", command)]


async def test_ingress_forgets_an_open_breaker_that_was_reset(bench: Bench) -> None:
    bench.model.outcome = ModelFailure(FallbackReason.BREAKER_OPEN, BreakerState.OPEN, 100.0)
    await bench.post(EXAMPLE)
    await order(bench, "chronos", {"action": "reset"})
    await bench.post(EXAMPLE)

    assert len(bench.model.requests) == 2


async def test_order_is_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await order(bench, "mock", {"action": "force_open"})

    assert "an operator ordered force_open for the breaker of mock" in caplog.text


@pytest.mark.parametrize(
    ("model", "body", "status", "code"),
    [
        ("chronos", {"action": "explode"}, 422, "invalid_request"),
        ("chronos", {"action": "reset", "force": True}, 422, "invalid_request"),
        ("chronos", b"{", 400, "invalid_json"),
        ("chronos", b" " * 1025, 413, "body_too_large"),
        ("nobody", {"action": "reset"}, 404, "unknown_model"),
    ],
)
async def test_invalid_command_is_refused(
    bench: Bench, model: str, body: Any, status: int, code: str
) -> None:
    found, answer = await order(bench, model, body)

    assert (found, answer["error"]["code"]) == (status, code)
    assert bench.operator.commands == []


async def test_form_that_a_web_page_could_send_unasked_is_refused(bench: Bench) -> None:
    found, answer = await order(
        bench, "chronos", {"action": "force_open"}, **{"content-type": "text/plain"}
    )

    assert found == 422
    assert answer["error"]["detail"] == [
        {"path": "content-type", "message": "Send application/json."}
    ]
    assert bench.operator.commands == []


async def test_unreachable_breaker_is_an_error_with_a_retry_time(bench: Bench) -> None:
    bench.operator.unreachable = True
    response = await bench.http.post(ROUTE.format(model="mock"), json={"action": "reset"})

    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["error"]["code"] == "breaker_unreachable"
