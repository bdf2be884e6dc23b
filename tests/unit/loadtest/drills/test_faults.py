"""The fault suite: cases the stand-in and the proxy know, rows, and pass or fail."""

import pytest

from loadtest.drills.faults import (
    CASES,
    Case,
    Row,
    failures,
)
from loadtest.drills.harness import Sample
from loadtest.stub.app import Runtime, Settings

GOOD = Sample(0.0, 0.1, source="model", breaker="closed")
FALLBACK = Sample(0.0, 0.2, source="baseline", reason="runtime_error", breaker="open")


def row(*samples: Sample, strikes: int = 1, back_s: float | None = 0.5) -> Row:
    return Row("hang", samples, strikes, back_s)


def broken(found: Row) -> str:
    return "; ".join(failures([found], 1500))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_is_an_order_that_is_understood(case: Case):
    runtime = Runtime(Settings())
    runtime.control({"fault": case.fault})

    assert (runtime.fault is not None) == bool(case.fault)
    assert not (case.fault and case.down)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (row(GOOD, FALLBACK, Sample(0.0, 1.55, source="baseline")), ""),
        (row(GOOD, Sample(0, 1, "status 500")), "hang: 1 of 2 bad (1 status 500)"),
        (row(Sample(0.0, 1.551)), "hang: max 1551 ms is over 1550 ms"),
        (row(GOOD, strikes=0), "hang: it never took effect"),
        (row(GOOD, back_s=None), "hang: the model did not come back"),
        (row(), "hang: max nan ms is over 1550 ms"),
    ],
)
def test_each_broken_promise_is_named(found: Row, words: str):
    assert words in broken(found) if words else not broken(found)
