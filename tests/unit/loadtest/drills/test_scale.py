"""Sizing: parts are full when their work fills them, sizes carry their load, costs are measured."""

from dataclasses import replace

from loadtest.drills.harness import options
from loadtest.drills.scale import (
    CALLERS,
    INGRESS,
    MEASURED,
    OPTIONS,
    STAGES,
    Cost,
    Point,
    failures,
    loop_table,
    report,
    unique_at,
)

ARGS = options("scale", "", [], OPTIONS)


def test_shares_that_callers_can_get_are_shown_beside_those_measured() -> None:
    busy = dict.fromkeys(STAGES, 0.1) | {INGRESS: 2.0}
    found = [Cost(unique_at(c), 200.0, 100.0, 9.0, 0.2, busy) for c in CALLERS]

    rows = loop_table(found).splitlines()

    # 152.2 / (152.2 + 256), 152.2 / 256: the ingress is slower than two calls; 200 of 841 a second
    assert rows[-1] == "| 128 | 152 | 256 | 0.37 | 0.59 | 0.24 |"
    assert rows[2] == "| 8 | 44 | 16 | 0.73 | 0.54 | 1.11 |"


def test_committed_points_are_near_the_rule_and_one_that_is_far_is_named() -> None:
    assert report(ARGS, [])[1] == []
    far = Point("some", 100, elsewhere=1.7)  # 0.3 cores are left
    slow = replace(far, per_second=70.0)

    assert failures([far], MEASURED, 2) == []
    assert failures([slow], MEASURED, 2) == ["some: 102/s expected, 70 measured"]
