"""The autoscaling test: what should come of a step, callers that come and go, pass or fail."""

from collections.abc import Sequence

import pytest

from loadtest.drills.autoscale import (
    OUT,
    STEP,
    Phase,
    Seen,
    failures,
)
from loadtest.drills.harness import Sample
from loadtest.payloads import Shape

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
