"""The autoscaling test: what should come of a step, callers that come and go, pass or fail."""

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
import yaml

from loadtest.autoscale.__main__ import adapted
from loadtest.autoscale.callers import Callers
from loadtest.autoscale.verdict import (
    OUT,
    STEP,
    Phase,
    Times,
    failures,
    last_line,
    runners_for,
    share_of_best,
    table,
    times_line,
)
from loadtest.payloads import Shape
from loadtest.samples import Sample
from tests.builders import ROOT
from tests.unit.loadtest.fake_service import answer, forecast, serving

SHAPE = Shape(points=40)
TIMES = Times(30.0, 41.0, 75.0)
GOOD = Sample(0.0, 0.1, source="model")
BASELINE = Sample(0.0, 0.1, source="baseline")


def phase(name: str, samples: Sequence[Sample], seconds: float = 1.0) -> Phase:
    return Phase(name, 120, "1 to 3", seconds, samples, [40, 20], busy_s=0.8 * seconds)


@pytest.mark.parametrize(("callers", "runners"), [(1, 1), (40, 1), (41, 2), (120, 3), (1000, 4)])
def test_runners_follow_the_callers_up_to_the_most(callers: int, runners: int) -> None:
    assert runners_for(callers, target=40, most=4) == runners


def test_small_targets_cost_a_runtime_that_is_slow_for_each_call() -> None:
    assert share_of_best(200, 37, 0.9) == pytest.approx(0.83, abs=0.005)
    assert share_of_best(40, 37, 0.9) == pytest.approx(0.49, abs=0.005)
    assert share_of_best(40, 0, 0.9) == 1.0


def test_steps_that_kept_every_promise_pass() -> None:
    phases = [phase(STEP, [GOOD] * 100), phase(OUT, [GOOD] * 95)]

    assert failures(phases, TIMES, least_share=0.9) == []
    assert last_line([]) == "AUTOSCALE_PASS"


@pytest.mark.parametrize(
    ("after", "times", "words"),
    [
        ([GOOD] * 80, TIMES, "the model answered 100 a second and then 80"),
        ([GOOD] * 80 + [BASELINE] * 99, TIMES, "the model answered 100 a second and then 80"),
        ([GOOD] * 99 + [Sample(0, 1, "status 500")], TIMES, "1 status 500"),
        ([GOOD] * 100, replace(TIMES, all_s=None), "not scaled out while"),
        ([GOOD] * 100, replace(TIMES, back_s=None), "not scaled in again"),
    ],
)
def test_each_broken_promise_fails(after: list[Sample], times: Times, words: str) -> None:
    broken = failures([phase(STEP, [GOOD] * 100), phase(OUT, after)], times, least_share=0.9)

    assert words in last_line(broken)


def test_table_shows_rate_latency_batches_and_how_busy_the_runtime_was() -> None:
    lines = table([phase(OUT, [GOOD] * 50, seconds=2.0)]).splitlines()

    assert [len(line.split("|")) for line in lines] == [len(lines[0].split("|"))] * 3
    row = "| step, scaled out | 1 to 3 | 120 | 2 | 25 | 100.0% | 100 | 100 | 30.0 | 80% |"
    assert lines[-1] == row


def test_times_that_never_came_are_told() -> None:
    told = times_line(replace(TIMES, back_s=None))

    assert told == "the first new Runner after 30 s, all of them after 41 s, scaled in after never"


def test_runner_of_the_steps_scales_by_the_shipped_policy() -> None:
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    args = argparse.Namespace(target=40, downscale_delay_s=20.0)

    (app, *_) = adapted(config, args)["applications"]
    scaling = {d["name"]: d.get("autoscaling_config") for d in app["deployments"]}["Runner"]

    assert (scaling["target_ongoing_requests"], scaling["max_replicas"]) == (40, 4)
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
        callers = Callers(url, SHAPE, timeout_s=5)
        callers.are(3)
        await asyncio.wait_for(enough.wait(), 10)
        callers.are(1)
        await callers.leave()

    assert most == 3
    assert len(callers.samples) == count
    assert all(sample.problem is None for sample in callers.samples)
