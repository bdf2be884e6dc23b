"""The command: the stand-in, the service, steady mixed traffic, and looks at every process.

    python -m loadtest.soak --minutes 10 --rate 50
    python -m loadtest.soak --minutes 60 --leave 0.5

The last line is ``SOAK_PASS`` or ``SOAK_FAIL: why``; the exit code says the same.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import httpx

from loadtest.drill import ends_told, exit_code, say, service_on
from loadtest.payloads import Shape
from loadtest.service import Service
from loadtest.soak.callers import Callers
from loadtest.soak.traffic import Mix, asks
from loadtest.soak.verdict import (
    Limits,
    failures,
    gauge_rows,
    gauge_table,
    last_line,
    rows,
    table,
    traffic_table,
)
from loadtest.soak.watch import Look, look
from loadtest.stub.process import start_stub

STUB = ("--model", "mock", "--ms-per-call", "37", "--ms-per-series", "0.9")
SETTINGS = {  # what is kept up to a number is full within the warm-up: a slope is a leak
    "TSFM_CACHE__MAX_ENTRIES": "500",
    "TSFM_CONFORMAL__MAX_MARKETS": "50",  # these where learning is on
    "TSFM_CONFORMAL__MAX_PENDING_PER_MARKET": "12",
    "TSFM_CONFORMAL__MAX_QUEUED": "500",
    "TSFM_CONFORMAL__ROLLING_POINTS": "100",
}
SHAPE = Shape(model="mock", points=96)
CALM_S = 10.0  # for what is under way to end once nobody asks any more


@dataclass(slots=True)
class Found:
    """What a run has seen so far."""

    callers: Callers
    warm_up_s: float
    looks: list[Look] = field(default_factory=list)
    in_flight: int | None = None

    def in_window(self) -> list[Look]:
        return [look for look in self.looks if look.at_s >= self.warm_up_s]


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    found: Found | None = None
    broken: list[str] = []
    with ends_told(broken), _service(args) as service:
        found = Found(Callers(service.url, SHAPE), warm_up_s(args.minutes, args.warm_up_s))
        asyncio.run(_run(service, args, found))
    if found is None:
        print(last_line(broken))
        return exit_code(broken)
    looks, tallies = found.in_window(), found.callers.tallies
    broken = broken or failures(looks, tallies, found.in_flight, _limits(args))
    gauges = gauge_table(gauge_rows(looks))
    print(traffic_table(tallies), table(rows(looks)), gauges, _note(looks, args), sep="\n\n")
    print(last_line(broken))
    return exit_code(broken)


def warm_up_s(minutes: float, asked_s: float | None) -> float:
    """Seconds before slopes are taken: a third of the run, five minutes at most."""
    return min(300.0, minutes * 20) if asked_s is None else asked_s


async def _run(service: Service, args: argparse.Namespace, found: Found) -> None:
    duration_s = args.minutes * 60
    mix = Mix(SHAPE, args.markets, args.batch_items, args.leave, args.seed)
    watching = asyncio.create_task(_watch(service, args.every_s, found))
    try:
        await found.callers.run(asks(mix), args.rate, duration_s)
    finally:
        watching.cancel()
        found.callers.close()
    found.in_flight = await _in_flight_at_the_end(service.url)


async def _watch(service: Service, every_s: float, found: Found) -> None:
    began = perf_counter()
    while True:
        at_s = perf_counter() - began
        seen = await asyncio.to_thread(_look, service, at_s)
        found.looks.append(seen)
        say(_progress(found, seen))
        await asyncio.sleep(max(0.0, at_s + every_s - (perf_counter() - began)))


def _look(service: Service, at_s: float) -> Look:
    try:
        metrics = httpx.get(f"{service.url}/metrics", timeout=5, trust_env=False).text
    except httpx.HTTPError:
        metrics = ""
    return look(service.processes(), at_s, metrics)


def _progress(found: Found, seen: Look) -> str:
    tallies = found.callers.tallies.values()
    counts = [sum(t.requests for t in tallies), sum(t.invalid for t in tallies)]
    total_mb = sum(reading.pss_mb for reading in seen.readings.values())
    return (
        f"{seen.at_s:5.0f} s: {counts[0]} requests, {counts[1]} invalid, "
        f"{len(seen.readings)} processes, {total_mb:.0f} MB"
    )


async def _in_flight_at_the_end(url: str) -> int | None:
    """Requests under way once nobody asks; what does not end within ``CALM_S`` hangs."""
    until, under_way = perf_counter() + CALM_S, None
    async with httpx.AsyncClient(trust_env=False) as client:
        while perf_counter() < until:
            with contextlib.suppress(httpx.HTTPError, KeyError, ValueError):
                status = (await client.get(f"{url}/tsfm/status")).json()
                under_way = int(status["queue"]["in_flight"])
            if under_way == 0:
                break
            await asyncio.sleep(0.5)
    return under_way


@contextlib.contextmanager
def _service(args: argparse.Namespace) -> Iterator[Service]:
    with tempfile.TemporaryDirectory() as folder, start_stub(*STUB) as stub:
        learned = Path(folder) / "learned.json"
        env = SETTINGS | {"TSFM_CONFORMAL__LEARNED_FILE": str(learned)}
        with service_on(stub.url, env, log_lines=args.log_lines) as service:
            yield service


def _note(looks: list[Look], args: argparse.Namespace) -> str:
    if len(looks) < 2:
        return "no window"
    window_s = looks[-1].at_s - looks[0].at_s
    least = args.noise_mb * 3600 / window_s
    return (
        f"{len(looks)} looks over {window_s:.0f} s after a warm-up; growth under {least:.0f} MB/h "
        "cannot be told from noise in a run of this length"
    )


def _limits(args: argparse.Namespace) -> Limits:
    counts = (args.limit_fds, args.limit_threads, args.limit_gauges)
    return Limits(args.limit_mb_per_hour, args.noise_mb, *counts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.soak",
        description="Does anything grow while impatient callers ask for hours?",
    )
    add = parser.add_argument
    add("--minutes", type=float, default=10.0)
    add("--rate", type=float, default=50.0, help="requests a second, whatever is under way")
    add("--leave", type=float, default=0.2, help="share of callers who hang up early, 0 to 1")
    add("--markets", type=int, default=40, help="so few that each is known after the warm-up")
    add("--batch-items", type=int, default=8)
    add("--every-s", type=float, default=5.0, help="between two looks at the processes")
    add("--warm-up-s", type=float, help="default: a third of the run, 300 at most")
    add(
        "--limit-mb-per-hour",
        type=float,
        default=10.0,
        help="of each process of ours: one of 250 MB then needs a day to double",
    )
    add(
        "--noise-mb",
        type=float,
        default=3.0,
        help="what an allocator takes and gives back in a run without leaks",
    )
    add("--limit-fds", type=int, default=20, help="callers' connections come and go")
    add("--limit-threads", type=int, default=4, help="pools fill up to their size")
    add("--limit-gauges", type=int, default=20, help="tasks, items in line, kept answers")
    add("--seed", type=int, default=0)
    add("--log-lines", type=int, default=5)
    return parser


if __name__ == "__main__":
    sys.exit(main())
