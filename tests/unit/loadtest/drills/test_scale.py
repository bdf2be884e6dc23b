"""Sizing: parts are full when their work fills them, sizes carry their load, costs are measured."""

from dataclasses import replace

import pytest

from loadtest.drills.harness import options
from loadtest.drills.scale import (
    MEASURED,
    OPTIONS,
    Load,
    Point,
    Runtime,
    failures,
    report,
    size_for,
)

ARGS = options("scale", "", [], OPTIONS)


@pytest.mark.parametrize("per_second", [10, 700, 9_000])
def test_planned_size_keeps_every_process_below_full(per_second: float) -> None:
    size = size_for(Load(per_second), MEASURED, Runtime(), cores_each=8)

    assert per_second * MEASURED.ingress_ms / 1e3 / size["ingresses"] <= 0.6
    assert per_second / size["runtimes"] <= 0.61 * Runtime().per_second(128)
    assert size["Runners"] >= max(2, size["runtimes"])
    assert max(busy for name, busy in size.items() if "busy" in name) <= 0.6


def test_batches_count_as_what_they_cost() -> None:
    single = size_for(Load(5_000), MEASURED, Runtime(), 8)
    cycle = size_for(Load(0, markets=300_000), MEASURED, Runtime(), 8)

    assert cycle["runtimes"] == single["runtimes"]  # 5,000 series a second as well
    assert cycle["ingresses"] < single["ingresses"]


def test_part_that_is_full_first_sets_the_rate() -> None:
    point = Point("some", 100, elsewhere=0.0)
    slow_ingress = replace(MEASURED, ingress_ms=100)
    slow_runtime = replace(point, runtime=Runtime(1000, 10))

    assert point.expected(slow_ingress, cores=99) == 10
    assert slow_runtime.expected(MEASURED, cores=99) == pytest.approx(101 / 2.01, rel=0.01)
    busy = replace(point, elsewhere=1.5).expected(MEASURED, cores=2)
    assert busy == pytest.approx(0.5 / 2.945e-3)
    assert point.expected(MEASURED, cores=99) < replace(point, bulk=True).expected(MEASURED, 99)


def test_committed_points_are_near_the_rule_and_one_that_is_far_is_named() -> None:
    assert report(ARGS, [])[1] == []
    far = Point("some", 100, elsewhere=1.7)  # 0.3 cores are left
    slow = replace(far, per_second=70.0)

    assert failures([far], MEASURED, 2) == []
    assert failures([slow], MEASURED, 2) == ["some: 102/s expected, 70 measured"]
