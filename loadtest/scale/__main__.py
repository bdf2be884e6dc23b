"""The command: what a load needs by costs that were measured, and how good the model is.

    python -m loadtest.scale              # the committed costs: model, plan, simulation; no service
    python -m loadtest.scale --measure    # measures a service on this machine first: minutes
    python -m loadtest.scale --ms-per-call 80 --ms-per-series 2 --cores 16

The last line is ``SCALE_PASS`` or ``SCALE_FAIL: why``; the exit code says the same.
"""

import argparse
import asyncio
import sys

from loadtest.compare.cases import Stand
from loadtest.drill import ends_told, exit_code, say, service_on
from loadtest.scale.costs import FLEET, MEASURED, POINTS, Costs, Point, Runtime
from loadtest.scale.measure import A_MS, B_MS, Cost, costs, costs_of, points_of
from loadtest.scale.plan import Load, limits
from loadtest.scale.report import (
    check_points,
    cost_table,
    failures,
    last_line,
    limit_table,
    plan_rows,
    plan_table,
    point_table,
)
from loadtest.stub.process import start_stub

LOADS = (
    Load(100, markets=1_000),
    Load(1_000, markets=10_000),
    Load(10_000, markets=100_000),
)


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    known, points = MEASURED, POINTS
    if args.measure:
        found: list[Cost] = []
        broken: list[str] = []
        with ends_told(broken):
            found = _measure(args.scale)
        if broken:
            print(last_line(broken))
            return exit_code(broken)
        print(cost_table(found), "")
        known, points = costs_of(found), points_of(found)
    return _report(known, points, args)


def _report(known: Costs, points: tuple[Point, ...], args: argparse.Namespace) -> int:
    runtime = Runtime(args.ms_per_call, args.ms_per_series)
    checked = check_points(points, known, args.machine_cores)
    rows = plan_rows(LOADS, known, runtime, args.cores)
    broken = failures(checked, rows, args.p95_ms, args.cycle_s)
    print(known, "", point_table(checked), "", plan_table(rows), "", sep="\n")
    print(limit_table(limits(known, runtime, FLEET)), last_line(broken), sep="\n", flush=True)
    return 1 if broken else 0


def _measure(scale: float) -> list[Cost]:
    speed = ("--ms-per-call", str(A_MS), "--ms-per-series", str(B_MS))
    env = {"TSFM_SECURITY__BURST_STEPS": "100000000"}
    with start_stub("--model", "mock", *speed) as stub, service_on(stub.url, env) as service:
        return asyncio.run(costs(Stand(service.url, stub, scale, say), service))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.scale", description="How much of everything does a load need?"
    )
    add = parser.add_argument
    add("--measure", action="store_true", help="measure the costs on this machine first")
    add("--scale", type=float, default=1.0, help="how many requests to measure with")
    add("--machine-cores", type=int, default=2, help="cores of the machine that was measured")
    add("--ms-per-call", type=float, default=A_MS, help="your runtime's time for a call")
    add("--ms-per-series", type=float, default=B_MS, help="and for each series in it")
    add("--cores", type=float, default=8.0, help="cores of a node of the deployment")
    add("--p95-ms", type=float, default=300.0, help="for single forecasts")
    add("--cycle-s", type=float, default=60.0, help="for all markets once")
    return parser


if __name__ == "__main__":
    sys.exit(main())
