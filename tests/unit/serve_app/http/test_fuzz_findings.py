"""What the fuzzer found, each as its smallest request. A warning is a fault, here as there."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from runner.types import MIN_EPS
from tests.fuzz.run import faults
from tests.fuzz.senders import fire
from tests.fuzz.shots import FORECAST_PATH, Reply, Shot, whole
from tests.fuzz.stack import Stack
from tests.support.bench import example


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    stack = Stack()
    yield stack
    await stack.aclose()


async def answered(stack: Stack, **changes: Any) -> tuple[Shot, Reply]:
    shot = whole((FORECAST_PATH, orjson.dumps(example(model=..., **changes))))
    return shot, await fire(stack.app, shot)


@pytest.mark.parametrize("bound", [0, 1])
async def test_smallest_epsilon_keeps_log_odds_of_the_bounds_finite(
    stack: Stack, bound: int
) -> None:
    transform = {"space": "logit", "eps": MIN_EPS}
    shot, reply = await answered(stack, y=[bound] * 40, transform=transform)

    assert reply.status == 200
    assert faults(shot, reply) == []


async def test_times_within_one_step_are_enough_for_a_forecast(stack: Stack) -> None:
    times = ["2026-02-20T11:59:59Z", "2026-02-20T12:00:00Z"]
    shot, reply = await answered(stack, y=[0.2, 0.3], y_ts=times)

    assert reply.status == 200
    assert faults(shot, reply) == []
    assert orjson.loads(reply.body)["meta"]["input_len"] == 1
