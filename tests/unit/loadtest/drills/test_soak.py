"""The soak: who asks what, who leaves, what grows, and pass or fail."""

from collections import Counter

import pytest

from loadtest.drills.harness import Sample
from loadtest.drills.parts.processes import Reading
from loadtest.drills.soak import (
    Found,
    Look,
    failures,
    gauges_of,
)

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
