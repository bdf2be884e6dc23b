"""The command: what a load needs by costs that were measured, and how good the model is.

    python -m loadtest.scale              # the committed costs: model, plan, simulation; no service
    python -m loadtest.scale --measure    # measures a service on this machine first: minutes
    python -m loadtest.scale --ms-per-call 80 --ms-per-series 2 --cores 16

The last line is ``SCALE_PASS`` or ``SCALE_FAIL: why``; the exit code says the same.
"""

import argparse
import asyncio
import signal
import sys

from loadtest.compare.cases import Stand
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
from loadtest.service import EMBEDDED_RUNTIME, start
from loadtest.stub_process import start_stub

LOADS = (
    Load(100, markets=1_000),
    Load(1_000, markets=10_000),
    Load(10_000, markets=100_000),
)


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)  # so that the service is stopped on the way out
    known, points = MEASURED, POINTS
    if args.measure:
        try:
            found = _measure(args.scale)
        except (RuntimeError, OSError, KeyboardInterrupt) as exc:
            print(last_line([str(exc) or "interrupted"]))
            return 1
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
    with start_stub("--model", "mock", *speed) as stub:
        env = {"TSFM_TOLLAMA__BASE_URL": stub.url, "TSFM_SECURITY__BURST_STEPS": "100000000"}
        with start(env=env, without=[EMBEDDED_RUNTIME]) as service:
            _say(f"ready after {service.wait_ready():.1f} s on {service.url}")
            return asyncio.run(costs(Stand(service.url, stub, scale, _say), service))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
