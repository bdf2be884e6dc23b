"""The capacity model: queues behave as queues do, sizes carry their load, tables are honest."""

import os
import random
from dataclasses import replace

import pytest

from loadtest.compare.cases import Stand
from loadtest.payloads import Shape
from loadtest.scale.costs import FLEET, MEASURED, Costs, Point, Runtime, Size
from loadtest.scale.measure import (
    ALONE,
    KNOWN,
    NEW_BATCH,
    SLOW,
    STAGES,
    UNIQUE_32,
    UNIQUE_128,
    Cost,
    costs,
    costs_of,
    points_of,
)
from loadtest.scale.plan import Load, hit_share, limits, size_for
from loadtest.scale.queues import Clock, Machine, Process
from loadtest.scale.report import (
    Checked,
    PlanRow,
    cost_table,
    failures,
    last_line,
    limit_table,
    plan_table,
    point_table,
)
from loadtest.scale.simulate import Outcome, World
from tests.unit.loadtest.fake_service import answer, serving

FREE = Costs(
    ingress_ms=0,
    runner_ms=0,
    proxy_ms=0,
    around_ms=0,
    hit_ms=0,
    bulk_ingress_ms=0,
    bulk_runner_ms=0,
    background=0,
    share_s=0,
    lead_s=0,
    prompt_s=1,
)
RUNTIME = Runtime(a_ms=40, b_ms=2, most=100)


def world(costs: Costs = FREE, size: Size | None = None, *, one_machine: bool = False) -> World:
    return World(size or Size(), costs, RUNTIME, one_machine=one_machine)


def test_processes_of_a_machine_wait_for_its_cores() -> None:
    clock = Clock()
    machine, done = Machine(clock, cores=1), list[float]()
    for _ in range(3):
        Process(machine).do(100, lambda: done.append(clock.now))
    clock.run(1)

    assert done == pytest.approx([0.1, 0.2, 0.3])


def test_process_does_one_thing_at_a_time_however_many_cores_there_are() -> None:
    clock = Clock()
    process, done = Process(Machine(clock, cores=8)), list[float]()
    for _ in range(2):
        process.do(100, lambda: done.append(clock.now))
    clock.run(1)

    assert done == pytest.approx([0.1, 0.2])
    assert process.busy_s == pytest.approx(0.2)


def test_cores_that_are_busy_with_other_things_make_all_slower() -> None:
    clock, done = Clock(), list[float]()
    Process(Machine(clock, cores=1.6)).do(100, lambda: done.append(clock.now))
    clock.run(1)

    assert done == pytest.approx([0.125])


def test_lone_caller_gets_one_series_a_call() -> None:
    found = world().closed_loop(1, seconds=10)

    assert (found.series_per_call, found.p50_ms) == pytest.approx((1, 42))
    assert found.per_second == pytest.approx(1000 / 42, rel=0.02)


def test_runtime_is_the_limit_where_work_is_free_and_batches_hold_who_waits() -> None:
    found = world().closed_loop(200, seconds=20)

    assert found.series_per_call == pytest.approx(100, rel=0.02)
    assert found.per_second == pytest.approx(RUNTIME.per_second(100), rel=0.03)
    assert found.runtime_busy == pytest.approx(1, abs=0.02)


def test_next_call_leaves_before_the_one_before_it_is_answered_so_that_no_runtime_idles() -> None:
    far = replace(FREE, wait_ms=80)

    late, soon = (
        world(replace(far, lead_s=lead_s)).closed_loop(200, seconds=20) for lead_s in (0, 0.1)
    )

    assert late.runtime_busy < 0.9
    assert soon.runtime_busy == pytest.approx(1, abs=0.02)


def test_calls_are_kept_short_while_single_forecasts_come() -> None:
    found = world(replace(FREE, prompt_s=0.1)).closed_loop(200, seconds=20)

    assert found.series_per_call == pytest.approx(30, rel=0.02)  # 40 + 2 * 30 = 100 ms


def test_two_runtimes_carry_twice_as_much() -> None:
    size = Size(runners=2, runtimes=2)

    found = world(size=size).closed_loop(400, seconds=20)

    assert found.per_second == pytest.approx(2 * RUNTIME.per_second(100), rel=0.05)


def test_two_runners_of_one_runtime_make_its_calls_smaller() -> None:
    alone = world().closed_loop(80, seconds=20)
    shared = world(size=Size(runners=2)).closed_loop(80, seconds=20)

    assert shared.series_per_call < 0.7 * alone.series_per_call
    assert shared.per_second < alone.per_second


def test_ingress_is_the_limit_where_its_work_is_the_most() -> None:
    found = world(replace(FREE, ingress_ms=10)).closed_loop(50, seconds=20)

    assert found.per_second == pytest.approx(100, rel=0.03)
    assert found.ingress_busy == pytest.approx(1, abs=0.02)


def test_client_and_stand_in_count_where_they_share_the_machine() -> None:
    costs = replace(FREE, around_ms=20)

    assert world(costs, one_machine=True).closed_loop(50, 10).per_second < 51
    assert world(costs).closed_loop(50, 10).per_second > 200


def test_open_loop_answers_what_is_offered() -> None:
    found = world().open_loop(100, seconds=20)

    assert found.per_second == pytest.approx(100, rel=0.1)


def test_cycle_answers_every_market_once() -> None:
    found = world().cycle(2_000, at_once=2, each=500)

    assert found.per_second * found.last_s == pytest.approx(2_000)
    assert found.last_s == pytest.approx(2_000 / RUNTIME.per_second(100), rel=0.05)


@pytest.mark.parametrize("per_second", [10, 700, 9_000])
def test_planned_size_keeps_every_process_below_full(per_second: float) -> None:
    size = size_for(Load(per_second), MEASURED, Runtime(), cores_each=8)

    assert per_second * MEASURED.ingress_ms / 1e3 / size.ingresses <= 0.6
    assert per_second / size.runtimes <= 0.61 * Runtime().per_second(128)
    assert size.runners >= max(2, size.runtimes)


def test_known_markets_and_batches_count_as_what_they_cost() -> None:
    new = size_for(Load(5_000), MEASURED, Runtime(), 8)
    known = size_for(Load(5_000, hits=0.8), MEASURED, Runtime(), 8)
    cycle = size_for(Load(0, markets=300_000), MEASURED, Runtime(), 8)

    assert known.runtimes < new.runtimes
    assert known.ingresses < new.ingresses
    assert cycle.runtimes == new.runtimes  # 5,000 series a second as well


def test_kept_answers_are_worth_less_the_more_replicas_there_are() -> None:
    shares = [hit_share(10, ingresses, ingresses) for ingresses in (1, 4, 16, 64)]

    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 0.9


def simulated_hit_share(asks: int, ingresses: int, runners: int, chance: random.Random) -> float:
    knows, computed, times = 0, 0, 4_000
    for _ in range(times):
        here, there = set[int](), set[int]()
        for _ in range(asks):
            ingress, runner = chance.randrange(ingresses), chance.randrange(runners)
            hit = ingress in here or runner in there
            knows, computed = knows + hit, computed + 1
            here.add(ingress)
            if not hit:
                there.add(runner)
    return knows / computed


def test_share_of_kept_answers_is_that_of_asks_thrown_like_dice() -> None:
    chance = random.Random(3)

    for asks, ingresses, runners in ((5, 2, 3), (10, 8, 4), (20, 25, 20)):
        thrown = simulated_hit_share(asks, ingresses, runners, chance)
        assert hit_share(asks, ingresses, runners) == pytest.approx(thrown, abs=0.03)


def cost(name: str, per_second: float, **cpu_ms: float) -> Cost:
    spent = dict.fromkeys(STAGES, 0.0) | {k.replace("_", " "): v for k, v in cpu_ms.items()}
    return Cost(name, per_second, 100.0, 30.0, 0.4, spent)


def test_costs_of_the_model_are_those_that_were_measured() -> None:
    busy = {"Ingress_replica": 1.4, "Runner_replica": 0.5, "client": 0.2, "Serve_controller": 0.5}
    found = [
        cost(UNIQUE_128, 400, **busy),
        cost(UNIQUE_32, 200, **busy),
        cost(SLOW, 120, **busy),
        cost(ALONE, 20, **busy),
        cost(KNOWN, 1000, Ingress_replica=0.6),
        cost(NEW_BATCH, 600, Ingress_replica=0.5, Runner_replica=0.4),
    ]

    model = costs_of(found)

    assert (model.ingress_ms, model.runner_ms, model.hit_ms) == (1.4, 0.5, 0.6)
    assert (model.bulk_ingress_ms, model.bulk_runner_ms) == (0.5, 0.4)
    assert model.background == pytest.approx(0.2)  # cores: 0.5 ms, 400 times a second
    assert model.wait_ms == pytest.approx(50 - 37.9 - 2.1)
    assert points_of(found)[1] == Point(UNIQUE_32, 200, 0.4, callers=32)
    assert "| unique, 128 at once | 400 | 100 | 30 | 2.60 |" in cost_table(found)


class FakeService:
    """Its only process is this one, under the name of an ingress."""

    def processes(self) -> dict[int, str]:
        return {os.getpid(): "ray::ServeReplica:tsfm:Ingress.forecast"}


class FakeStub:
    """Remembers how fast it was told to be."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.orders: list[dict[str, float]] = []

    def reset(self) -> None:
        pass

    def stats(self) -> dict[str, list[int]]:
        return {"series_per_call": [10, 20]}

    def control(self, **order: float) -> None:
        self.orders.append(order)


async def test_every_kind_of_load_is_measured_and_the_slow_runtime_comes_last() -> None:
    async def handler(_: bytes) -> bytes:
        return answer({})

    stub = FakeStub()
    async with serving(handler) as url:
        stand = Stand(url, stub, 0.01, print, Shape(points=24))  # type: ignore[arg-type]  # a fake
        found = await costs(stand, FakeService())  # type: ignore[arg-type]  # likewise

    assert {cost.name for cost in found} >= {UNIQUE_128, UNIQUE_32, ALONE, KNOWN, NEW_BATCH}
    assert found[-1].name == SLOW
    assert stub.orders == [{"ms_per_call": 148.0, "ms_per_series": 3.6}]
    assert sum(cost.cpu_ms["Ingress replica"] for cost in found) > 0  # in ticks of 10 ms
    assert all(cost.series_per_call == 15 and cost.per_second > 0 for cost in found)
    assert {point.callers for point in points_of(found)} == {128, 32, 0}
    assert costs_of(found).wait_ms >= 0


def row(p95_ms: float = 200, cycle_s: float = 20) -> PlanRow:
    singles = Outcome(100, 90, p95_ms, 4, 30, 0.5, 0.2, 0.9)
    return PlanRow(Load(100, markets=1000), Size(), singles, replace(singles, last_s=cycle_s))


def test_model_that_is_near_and_sizes_that_do_pass() -> None:
    near = Checked(Point("some", 100, 0.2, callers=1), modelled=120)

    assert failures([near], [row()], p95_ms=300, cycle_s=60) == []
    assert last_line([]) == "SCALE_PASS"
    assert "+20%" in point_table([near])


@pytest.mark.parametrize(
    ("modelled", "found", "words"),
    [
        (131, row(), "some: 131/s modelled, 100 measured"),
        (69, row(), "some: 69/s modelled, 100 measured"),
        (100, row(p95_ms=301), "100/s: p95 301 ms"),
        (100, row(cycle_s=61), "1000 markets: 61 s"),
    ],
)
def test_model_that_is_far_off_or_a_size_too_small_fails(
    modelled: float, found: PlanRow, words: str
) -> None:
    broken = failures(
        [Checked(Point("some", 100, 0.2, callers=1), modelled)], [found], p95_ms=300, cycle_s=60
    )

    assert words in last_line(broken)


def test_tables_have_a_cell_for_each_heading() -> None:
    for text in (plan_table([row()]), limit_table(limits(MEASURED, Runtime(), FLEET))):
        assert len({len(line.split("|")) for line in text.splitlines()}) == 1
