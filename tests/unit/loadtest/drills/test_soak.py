"""The soak: who asks what, who leaves, what grows, and pass or fail."""

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import islice

import orjson
import pytest

from loadtest.drills.harness import OF_THE_PROXY, Sample, at_rate
from loadtest.drills.parts.processes import Reading
from loadtest.drills.soak import (
    BATCH_ITEMS,
    WEIGHTS,
    Ask,
    Callers,
    Found,
    Look,
    asks,
    failures,
    gauges_of,
    refusal,
    replaced,
    rows_of,
)
from loadtest.payloads import Shape
from tests.unit.loadtest.fake_service import answer, forecast, serving

SHAPE = Shape(points=40)
RUNNER, GCS = "Runner replica", "Ray GCS"
GOOD_ONE, BAD_ONE = Sample(0, 1, source="model"), Sample(0, 1, "quantiles cross")
GOOD = {"unique": [GOOD_ONE]}


def looks(
    *,
    mb_each: float = 0.0,
    fds_each: int = 0,
    threads_each: int = 0,
    tasks_each: int = 0,
    name: str = RUNNER,
) -> list[Look]:
    """Ten minutes of looks at one process that takes some more at each."""
    return [
        Look(
            60.0 * n,
            {7: Reading(name, 250, 200 + mb_each * n, 50 + fds_each * n, 9 + threads_each * n)},
            {"Runner tsfm_tasks": 30 + tasks_each * n},
        )
        for n in range(10)
    ]


def broken(seen: list[Look], in_flight: int | None = 0) -> str:
    return "; ".join(failures(seen, Found(GOOD, looks=seen, in_flight=in_flight)))


def test_every_kind_comes_and_about_as_many_leave_as_asked():
    many = list(islice(asks(SHAPE, 0.2, seed=1), 2000))
    leaving = [ask for ask in many if ask.leaves_after is not None]

    assert {ask.kind for ask in many} == set(WEIGHTS)
    assert 0.17 < len(leaving) / len(many) < 0.23
    assert all(0 <= ask.leaves_after < 1 for ask in leaving if ask.leaves_after is not None)


@pytest.mark.parametrize(
    ("keep", "problem"),
    [(slice(None, None, -1), None), (slice(1, None), "not a forecast")],
)
async def test_lines_are_judged_in_the_order_of_their_index(keep: slice, problem: str | None):
    async def handler(body: bytes) -> bytes:
        requests = orjson.loads(body)["requests"]
        lines = [
            orjson.dumps({"index": n, "ok": forecast(orjson.dumps(request))})
            for n, request in enumerate(requests)
        ]
        return answer(b"\n".join(lines[keep]))

    async with serving(handler) as url:
        callers = Callers(url, SHAPE)
        await callers.ask(next(ask for ask in asks(SHAPE, 0.2, seed=1) if ask.kind == "ndjson"))
        callers.close()

    assert [sample.problem for sample in callers.samples["ndjson"]] == [problem] * BATCH_ITEMS


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ("status 422", None),
        (f"status 422 {OF_THE_PROXY}", f"status 422 {OF_THE_PROXY} for a bad request"),
        ("status 500", "status 500 for a bad request"),
        (None, "status 200 for a bad request"),
    ],
)
def test_a_bad_request_must_be_refused_in_the_services_own_form(
    found: str | None, problem: str | None
):
    assert refusal(Sample(0, 1, found)).problem == problem


async def test_who_waits_is_judged_and_who_leaves_is_counted_as_left():
    stuck = asyncio.Event()

    async def handler(body: bytes) -> bytes:
        if orjson.loads(body)["market_id"] == "m-1-1":
            await stuck.wait()
        return answer(forecast(body))

    bodies = [ask for ask in islice(asks(SHAPE, 0.2, seed=1), 100) if ask.kind == "unique"][:2]
    patient = replace(bodies[0], leaves_after=None)
    stuck_body = patient.body.replace(b'"m-1-', b'"m-1-1","x":"')
    impatient = Ask("unique", stuck_body, leaves_after=0.01)
    async with serving(handler) as url:
        callers = Callers(url, SHAPE)
        requests = iter([patient, impatient, patient])
        await at_rate(1000, lambda _: callers.ask(next(requests)), lambda number: number < 3)
        callers.close()

    assert [sample.problem for sample in callers.samples["unique"]] == [None, None]
    assert callers.left == {"unique": 1}


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (looks(), ""),
        (looks(mb_each=0.3), ""),  # 18 MB/h, but 2.4 MB in all: noise
        (looks(mb_each=5, name=GCS), ""),  # not a process of the project
        (looks(mb_each=0.5), f"{RUNNER}: grows 30 MB/h, 10 allowed"),
        (looks(fds_each=5), f"{RUNNER}: open files rose from 52 to 92"),
        (looks(threads_each=1), f"{RUNNER}: threads rose from 10 to 18"),
        (looks(tasks_each=4), "Runner tsfm_tasks rose from 32 to 64"),
        ([Look(one.at_s, one.readings) for one in looks()], "GET /metrics had no gauges"),
        (looks()[:4], "only 4 looks after the warm-up: run longer"),
    ],
)
def test_whatever_grows_is_named(seen: list[Look], words: str):
    assert broken(seen) == words


def test_a_process_of_ours_that_was_replaced_is_named():
    seen = looks()
    seen[-1] = Look(600.0, {8: seen[-1].readings[7]}, seen[-1].gauges)

    assert replaced(seen) == [f"2 {RUNNER} came or went"]
    assert rows_of(seen) == []


def test_bad_answers_are_named_and_a_kind_without_any_good_one_proves_nothing():
    samples = {"unique": [GOOD_ONE] * 8 + [BAD_ONE] * 2, "bad": [BAD_ONE]}
    found = failures(looks(), Found(samples, Counter(batch=3), looks(), 0))

    assert found == [
        "bad: nothing valid of 1",
        "batch: nothing valid of 0",
        "unique: 2 of 10 bad (2 quantiles cross)",
    ]


METRICS = """\
# HELP tsfm_tasks Tasks.
# TYPE tsfm_tasks gauge
tsfm_tasks{deployment="Runner",replica="a"} 12.0
tsfm_tasks{deployment="Runner",replica="b"} 5.0
# HELP tsfm_kept_answers Entries.
# TYPE tsfm_kept_answers gauge
tsfm_kept_answers{cache="bytes",deployment="Ingress",replica="c"} 500.0
# HELP tsfm_coverage Share.
# TYPE tsfm_coverage gauge
tsfm_coverage{deployment="Ingress"} 0.8
"""


def test_gauges_of_the_replicas_of_a_deployment_are_added_up():
    assert gauges_of("") == {}
    assert gauges_of(METRICS) == {
        "Runner tsfm_tasks": 17.0,
        "Ingress tsfm_kept_answers bytes": 500.0,
    }


@pytest.mark.parametrize(("in_flight", "words"), [(3, "3"), (None, "unknown")])
def test_requests_that_never_end_are_a_failure(in_flight: int | None, words: str):
    assert broken(looks(), in_flight) == f"requests still under way when all had gone: {words}"
