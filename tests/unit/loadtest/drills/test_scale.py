"""Sizing: parts are full when their work fills them, sizes carry their load, costs are measured."""

from dataclasses import replace

from loadtest.drills.harness import options
from loadtest.drills.scale import (
    MEASURED,
    OPTIONS,
    Point,
    failures,
    report,
)

ARGS = options("scale", "", [], OPTIONS)


def test_committed_points_are_near_the_rule_and_one_that_is_far_is_named() -> None:
    assert report(ARGS, [])[1] == []
    far = Point("some", 100, elsewhere=1.7)  # 0.3 cores are left
    slow = replace(far, per_second=70.0)

    assert failures([far], MEASURED, 2) == []
    assert failures([slow], MEASURED, 2) == ["some: 102/s expected, 70 measured"]
