"""What the fuzzer found, each as its smallest request. A warning is a fault, here as there."""

import asyncio
from typing import Any

import orjson
import pytest

from runner.types import MIN_EPS
from tests.fuzz.run import faults
from tests.fuzz.senders import fire
from tests.fuzz.shots import FORECAST_PATH, whole
from tests.fuzz.stack import Stack
from tests.support.bench import example

SMALLEST_EPS = {"space": "logit", "eps": MIN_EPS}
WITHIN_A_STEP = ["2026-02-20T11:59:59Z", "2026-02-20T12:00:00Z"]


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"y": [0] * 40, "transform": SMALLEST_EPS}, 40),
        ({"y": [1] * 40, "transform": SMALLEST_EPS}, 40),
        ({"y": [0.2, 0.3], "y_ts": WITHIN_A_STEP}, 1),
    ],
)
async def test_request_at_a_limit_is_answered_without_a_warning(
    changes: dict[str, Any], steps: int
) -> None:
    stack = Stack(asyncio.get_running_loop().time)
    shot = whole((FORECAST_PATH, orjson.dumps(example(model=..., **changes))))
    reply = await fire(stack.app, shot)
    await stack.aclose()

    assert reply.status == 200
    assert faults(shot, reply) == []
    assert orjson.loads(reply.body)["meta"]["input_len"] == steps
