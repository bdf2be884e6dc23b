"""The command: finds the rate that the service sustains, offers three times as much, and looks.

    python -m loadtest.overload
    python -m loadtest.overload --rate 80 --times 3 --times 8

The last line is ``OVERLOAD_PASS`` or ``OVERLOAD_FAIL: why``; the exit code says the same.
"""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterator

from loadtest.drills.harness import ends_told, exit_code, say, service_on
from loadtest.overload.offer import Load, Offerer, crowd
from loadtest.overload.search import sustainable
from loadtest.overload.verdict import (
    Budgets,
    Row,
    failures,
    is_sustained,
    last_line,
    rows_of,
    table,
)
from loadtest.payloads import Shape
from loadtest.stub.process import start_stub

SHAPE = Shape(model="mock", points=96)
SETTINGS = {  # a run ends when its last batch does
    "TSFM_REQUEST__BATCH_DEADLINE_MS": "10000",
    "TSFM_CONFORMAL__LEARNED_FILE": "null",
}


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    rows: list[Row] = []
    broken: list[str] = []
    with ends_told(broken), _service(args) as url:
        broken += asyncio.run(_run(Offerer(url, SHAPE), args, rows))
    print(table(rows), last_line(broken), sep="\n")
    return exit_code(broken)


async def _run(offerer: Offerer, args: argparse.Namespace, rows: list[Row]) -> list[str]:
    try:
        return await _drill(offerer, args, rows)
    finally:
        offerer.close()


async def _drill(offerer: Offerer, args: argparse.Namespace, rows: list[Row]) -> list[str]:
    """Fills ``rows``; the promises that were broken."""
    budgets = Budgets(args.p95_ms, args.cycle_s)

    async def offered(name: str, per_second: float, seconds: float) -> list[Row]:
        load = Load(per_second, seconds, args.batch_share, args.batch_items)
        seen, over_s = await offerer.offer(load)
        found = rows_of(f"{name}, {per_second:.0f}/s", seen, over_s)
        say(table(found).split("\n", 2)[2])
        return found

    async def is_fine(per_second: float) -> bool:
        return is_sustained(await offered("search", per_second, args.step_s), budgets)

    await offered("warm-up", args.start_rate, args.step_s)
    rate = args.rate or await sustainable(is_fine, args.start_rate)
    if not rate:
        return [f"not even {args.start_rate:g} forecasts a second are sustained"]
    broken = []
    for times in [1.0, *(args.times or [3.0])]:
        found = await offered(f"{times:g}x", rate * times, args.seconds)
        rows += found
        broken += failures(found, budgets)
    await asyncio.sleep(args.calm_s)
    after = await offered("1x, after", rate, args.seconds)
    rows += after
    broken += [] if is_sustained(after, budgets) else ["not as before afterwards"]
    found = await _crowd(offerer, args)
    rows += found
    return broken + failures(found, budgets)


async def _crowd(offerer: Offerer, args: argparse.Namespace) -> list[Row]:
    """Many large batches at once beside a few single requests."""
    requests = crowd(args.crowd_rate, args.seconds, args.crowd, args.crowd_items)
    seen, over_s = await offerer.send(requests, args.seconds)
    return rows_of(f"{args.crowd} batches of {args.crowd_items} at once", seen, over_s)


@contextlib.contextmanager
def _service(args: argparse.Namespace) -> Iterator[str]:
    speed = ("--ms-per-call", str(args.ms_per_call), "--ms-per-series", str(args.ms_per_series))
    with (
        start_stub("--model", "mock", *speed) as stub,
        service_on(stub.url, SETTINGS, log_lines=args.log_lines) as service,
    ):
        yield service.url


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.overload",
        description="Who is shed first, and how fast are those who are let in?",
    )
    add = parser.add_argument
    add("--rate", type=float, help="forecasts a second that are sustained; default: searched for")
    add("--times", type=float, action="append", help="the loads after that; default: 3")
    add("--seconds", type=float, default=20.0, help="of each load")
    add("--start-rate", type=float, default=30.0, help="where the search begins")
    add("--step-s", type=float, default=5.0, help="of each load of the search")
    add("--calm-s", type=float, default=3.0, help="between the overload and the look after it")
    add("--batch-share", type=float, default=0.3, help="of the forecasts, 0 to 1")
    add("--batch-items", type=int, default=32)
    add("--p95-ms", type=float, default=300.0, help="budget of interactive answers: slo.p95_ms")
    add("--cycle-s", type=float, default=60.0, help="budget of a batch: slo.cycle_s")
    add("--crowd", type=int, default=20, help="batches that come at once")
    add("--crowd-items", type=int, default=2000, help="in each of them")
    add("--crowd-rate", type=float, default=20.0, help="single requests a second beside them")
    add("--ms-per-call", type=float, default=40.0, help="of the stand-in")
    add("--ms-per-series", type=float, default=8.0, help="so slow that the runtime is the limit")
    add("--log-lines", type=int, default=5)
    return parser


if __name__ == "__main__":
    sys.exit(main())
