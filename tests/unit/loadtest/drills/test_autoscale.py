"""The autoscaling test: what should come of a step, callers that come and go, pass or fail."""

import asyncio
from collections.abc import Sequence

import pytest

from loadtest.drills.autoscale import (
    OUT,
    STEP,
    Callers,
    Phase,
    Seen,
    failures,
    scaling_config,
)
from loadtest.drills.harness import Sample
from loadtest.payloads import Shape
from loadtest.service import read_config
from tests.unit.loadtest.fake_service import answer, forecast, serving

SHAPE = Shape(points=40)
GOOD = Sample(0.0, 0.1, source="model")
BASELINE = Sample(0.0, 0.1, source="baseline")


def phase(name: str, samples: Sequence[Sample], seconds: float = 1.0) -> Phase:
    return Phase(name, 120, "1 to 3", seconds, samples, [40, 20])


def seen(*phases: Phase, **times: float | None) -> Seen:
    return Seen(list(phases), **({"out_s": 41.0, "back_s": 75.0} | times))


@pytest.mark.parametrize(
    ("after", "times", "words"),
    [
        ([GOOD] * 95, {}, ""),
        ([GOOD] * 80, {}, "the model answered 100 a second and then 80"),
        ([GOOD] * 80 + [BASELINE] * 99, {}, "the model answered 100 a second and then 80"),
        ([GOOD] * 99 + [Sample(0, 1, "status 500")], {}, "1 of 100 bad (1 status 500)"),
        ([GOOD] * 100, {"out_s": None}, "not scaled out while"),
        ([GOOD] * 100, {"back_s": None}, "not scaled in again"),
    ],
)
def test_each_broken_promise_fails(after: list[Sample], times: dict, words: str) -> None:
    found = seen(phase(STEP, [GOOD] * 100), phase(OUT, after), **times)

    broken = "; ".join(failures(found))
    assert words in broken if words else not broken


def test_runner_of_the_steps_scales_by_the_shipped_policy() -> None:
    (app, *_) = scaling_config(read_config(), 40)["applications"]
    scaling = {d["name"]: d.get("autoscaling_config") for d in app["deployments"]}["Runner"]

    assert (scaling["target_ongoing_requests"], scaling["max_replicas"]) == (40, 2)
    assert scaling["policy"] == {"policy_function": "serve_app.scaling:by_items"}


async def test_callers_come_and_go_and_each_has_one_request_under_way() -> None:
    under_way, most, count = 0, 0, 0
    enough = asyncio.Event()

    async def handler(body: bytes) -> bytes:
        nonlocal under_way, most, count
        under_way += 1
        most, count = max(most, under_way), count + 1
        await asyncio.sleep(0)
        under_way -= 1
        if count >= 20:
            enough.set()
        return answer(forecast(body, runtime="tollama"))

    async with serving(handler) as url:
        callers = Callers(url, SHAPE)
        callers.set_number(3)
        await asyncio.wait_for(enough.wait(), 10)
        callers.set_number(1)
        await callers.stop()

    assert most == 3
    assert len(callers.samples) == count
    assert all(sample.problem is None for sample in callers.samples)
