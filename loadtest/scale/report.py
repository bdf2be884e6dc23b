"""Tables of costs, of the model against what was measured, of sizes and of limits; pass or fail."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from loadtest.scale.costs import Costs, Point, Runtime, Size
from loadtest.scale.measure import STAGES, Cost
from loadtest.scale.plan import Limit, Load, size_for
from loadtest.scale.simulate import Outcome, World

LEAST_CORES = 0.2  # that are left for what is measured
TRUSTED = 0.3  # how far the model may be from what was measured
SIMULATED_S = 4.0


@dataclass(frozen=True, slots=True)
class Checked:
    point: Point
    modelled: float

    @property
    def off(self) -> float:
        return self.modelled / self.point.per_second - 1


@dataclass(frozen=True, slots=True)
class PlanRow:
    load: Load
    size: Size
    singles: Outcome
    cycle: Outcome


def model_of(point: Point, costs: Costs, cores: int) -> float:
    """Forecasts a second under the load of a point that was measured."""
    size = Size(runners=point.runners, cores_each=cores)
    costs = replace(costs, background=min(point.elsewhere, cores - LEAST_CORES))
    if not point.callers:
        world = World(size, costs.of_bulk(), point.runtime, one_machine=True)
        return world.cycle(4_000, at_once=1).per_second
    world = World(size, costs, point.runtime, one_machine=True)
    return world.closed_loop(point.callers, seconds=15).per_second


def check_points(points: Sequence[Point], costs: Costs, cores: int) -> list[Checked]:
    return [Checked(point, model_of(point, costs, cores)) for point in points]


def plan_rows(
    loads: Sequence[Load], costs: Costs, runtime: Runtime, cores_each: float
) -> list[PlanRow]:
    """The size for each load, and what callers would see of it; the two loads one by one."""
    rows = []
    for load in loads:
        size = size_for(load, costs, runtime, cores_each)
        singles = World(size, costs, runtime, one_machine=False)
        cycle = World(size, costs.of_bulk(), runtime, one_machine=False)
        rows.append(
            PlanRow(
                load,
                size,
                singles.open_loop(load.per_second, SIMULATED_S),
                cycle.cycle(load.markets, at_once=2 * size.ingresses),
            )
        )
    return rows


def failures(
    checked: Sequence[Checked], rows: Sequence[PlanRow], p95_ms: float, cycle_s: float
) -> list[str]:
    """What the model got wrong, and where a planned size would not do."""
    found = [
        f"{one.point.name}: {one.modelled:.0f}/s modelled, {one.point.per_second:.0f} measured"
        for one in checked
        if abs(one.off) > TRUSTED
    ]
    for row in rows:
        if row.singles.p95_ms > p95_ms:
            found.append(f"{row.load.per_second:.0f}/s: p95 {row.singles.p95_ms:.0f} ms")
        if row.cycle.last_s > cycle_s:
            found.append(f"{row.load.markets} markets: {row.cycle.last_s:.0f} s")
    return found


def cost_table(costs: Sequence[Cost]) -> str:
    """Milliseconds of CPU for each forecast by process."""
    used = [stage for stage in STAGES if any(cost.cpu_ms[stage] > 0.005 for cost in costs)]
    head = ["load", "forecasts/s", "p95 ms", "series a call", "CPU ms each", *used]
    lines = [[*_head_of(cost), *(f"{cost.cpu_ms[s]:.2f}" for s in used)] for cost in costs]
    return _table(head, lines)


def _head_of(cost: Cost) -> list[str]:
    numbers = (cost.per_second, cost.p95_ms, cost.series_per_call)
    return [cost.name, *(f"{number:.0f}" for number in numbers), f"{cost.total_ms:.2f}"]


def point_table(checked: Sequence[Checked]) -> str:
    head = ["one machine", "cores busy elsewhere", "measured, forecasts/s", "model", "off by"]
    return _table(
        head,
        (
            [
                c.point.name,
                f"{c.point.elsewhere:.1f}",
                f"{c.point.per_second:.0f}",
                f"{c.modelled:.0f}",
                f"{c.off:+.0%}",
            ]
            for c in checked
        ),
    )


def plan_table(rows: Sequence[PlanRow]) -> str:
    head = ["singles/s", "markets a cycle", "runtimes", "Runners", "ingresses", "nodes"]
    head += ["p50 ms", "p95 ms", "series a call", "ingress busy", "Runner busy", "cycle s"]
    return _table(head, map(_plan_cells, rows))


def _plan_cells(row: PlanRow) -> list[str]:
    size, singles = row.size, row.singles
    counts = [row.load.per_second, row.load.markets, size.runtimes, size.runners, size.ingresses]
    return [
        *(f"{count:,.0f}" for count in counts),
        f"{size.nodes} of {size.cores_each:.0f} cores",
        *(f"{number:.0f}" for number in (singles.p50_ms, singles.p95_ms, singles.series_per_call)),
        *(f"{share:.0%}" for share in (singles.ingress_busy, singles.runner_busy)),
        f"{row.cycle.last_s:.0f}",
    ]


def limit_table(found: Iterable[Limit]) -> str:
    head = ["part", "full at", "", "what helps then"]
    return _table(head, ([one.part, f"{one.at:,.0f}", one.unit, one.then] for one in found))


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---", *("---:" for _ in head[1:])], *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def last_line(broken: Sequence[str]) -> str:
    return f"SCALE_FAIL: {'; '.join(broken)}" if broken else "SCALE_PASS"
