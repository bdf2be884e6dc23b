"""Does the service keep its promises on this machine?

    python -m loadtest.bench --requests 200 --unique 20 --budget-p95-ms 300 --budget-cycle-s 60

Starts the stand-in and the service, or takes a running one, and measures. The last line is
``SLO_PASS`` or ``SLO_FAIL: why``; the exit code says the same. With ``--json`` there are numbers
alone, and an empty ``broken`` is a pass.
"""

import argparse
import asyncio
import contextlib
import json
import math
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from time import perf_counter
from typing import Any

from loadtest.drills.harness import (
    FORECAST,
    Client,
    Sample,
    closed_loop,
    early_end,
    exit_code,
    last_line,
    percentiles_ms,
    problems_of,
    say,
    standing,
)
from loadtest.http_client import endpoint
from loadtest.payloads import Shape, forecast_bodies

WARM_UP_SEED = 1_000_003  # other markets than those measured: the cache must not know them
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Budgets:
    """The limits of a run."""

    p95_ms: float
    cycle_s: float
    fallback_fraction: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in numbers; latencies are those of every request, good or bad."""

    samples: Sequence[Sample]
    elapsed_s: float

    @property
    def problems(self) -> Counter[str]:
        return problems_of(self.samples)

    def numbers(self) -> dict[str, float]:
        """By the name they have for programs; NaN where nothing was measured."""
        count, many = len(self.samples), max(1, len(self.samples))
        p50_ms, p95_ms, p99_ms = percentiles_ms(self.samples, 50, 95, 99)
        return {
            "requests": count,
            "elapsed_s": self.elapsed_s,
            "per_second": count / self.elapsed_s if self.elapsed_s else 0.0,
            "p50_ms": p50_ms,
            "p95_ms": p95_ms,
            "p99_ms": p99_ms,
            "cache_hit_share": sum(sample.cached for sample in self.samples) / many,
            "fallback_share": sum(sample.fallback for sample in self.samples) / many,
        }


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    early: list[str] = []
    summary = None
    with early_end(early):
        if args.url and not listens(args.url):
            where = "nothing listens there, or the name is unknown"
            print(last_line("SLO", [f"The service at {args.url} cannot be reached: {where}."]))
            return 2
        with _service(args) as url:
            summary = asyncio.run(measure(url, args))
    if summary is None or early:
        print(last_line("SLO", early))
        return exit_code(early)
    return _told(summary, args)


def _told(summary: Summary, args: argparse.Namespace) -> int:
    budgets = Budgets(args.budget_p95_ms, args.budget_cycle_s, args.budget_fallback_fraction)
    broken = failures(summary, budgets)
    if args.json:
        print(json.dumps(for_programs(summary, broken), indent=2))
    else:
        print(table(summary), last_line("SLO", broken), sep="\n")
    return exit_code(broken)


async def measure(url: str, args: argparse.Namespace) -> Summary:
    """Warms the service up, then measures it."""
    shape = Shape(points=args.points, horizon=args.horizon, model=args.model)
    target = endpoint(url, FORECAST)
    warm, client = Client(target, shape, TIMEOUT_S), Client(target, shape, TIMEOUT_S)
    await closed_loop(
        warm.send, forecast_bodies(args.warm_up, shape, WARM_UP_SEED), args.concurrency
    )
    bodies = list(islice(cycle(forecast_bodies(args.unique, shape, args.seed)), args.requests))
    began = perf_counter()
    watching = asyncio.create_task(_progress(client, len(bodies), began))
    samples = await closed_loop(client.send, bodies, args.concurrency)
    elapsed_s = perf_counter() - began
    watching.cancel()
    warm.close()
    client.close()
    return Summary(samples, elapsed_s)


async def _progress(client: Client, total: int, began: float) -> None:
    while True:
        await asyncio.sleep(1)
        done = len(client.samples)
        say(f"{done}/{total} requests, {done / (perf_counter() - began):.0f} /s")


def listens(url: str) -> bool:
    """Whether anybody takes connections there."""
    place = endpoint(url, "/")
    try:
        socket.create_connection((place.host, place.port), timeout=5).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _service(args: argparse.Namespace) -> Iterator[str]:
    """The address to measure; a service started for the run is stopped at the end."""
    if args.url:
        yield args.url
    else:
        with standing(args.adapter_latency_ms, 0.0) as stand:
            yield stand.url


def failures(summary: Summary, budgets: Budgets) -> list[str]:
    """Every promise the run broke, in words."""
    broken, numbers = [], summary.numbers()
    if problems := summary.problems:
        worst, count = problems.most_common(1)[0]
        of = f"{problems.total()} of {len(summary.samples)}"
        broken.append(f"{of} answers are bad ({count}x {worst})")
    if not numbers["p95_ms"] <= budgets.p95_ms:
        broken.append(f"p95 {numbers['p95_ms']:.1f} ms is over {budgets.p95_ms:g} ms")
    if not summary.elapsed_s <= budgets.cycle_s:
        broken.append(f"the cycle took {summary.elapsed_s:.1f} s of {budgets.cycle_s:g} s")
    if numbers["fallback_share"] > budgets.fallback_fraction:
        share = f"{numbers['fallback_share']:.1%} of {budgets.fallback_fraction:.1%}"
        broken.append(f"too many answers came from the fallback ({share})")
    return broken


def table(summary: Summary) -> str:
    """The numbers for people."""
    formats = ("{:.0f}", "{:.2f} s", "{:.1f} /s", *["{:.1f} ms"] * 3, "{:.1%}", "{:.1%}")
    names = ("requests", "elapsed", "throughput", "p50", "p95", "p99", "cache hits", "fallbacks")
    values = map(str.format, formats, summary.numbers().values())
    lines = [*zip(names, values, strict=True), ("bad answers", str(summary.problems.total()))]
    return "\n".join(f"{name:<12}{value:>12}" for name, value in lines)


def for_programs(summary: Summary, broken: Sequence[str]) -> dict[str, Any]:
    """The same as JSON; values without a measurement are null."""
    numbers = summary.numbers().items()
    known = {name: None if math.isnan(one) else round(one, 4) for name, one in numbers}
    return known | {"bad_answers": dict(summary.problems), "broken": list(broken)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.bench", description="Does the service keep its promises?"
    )
    add = parser.add_argument
    add("--requests", type=_count, default=200, help="how many are sent")
    add("--unique", type=_count, default=20, help="how many markets they are about")
    add("--concurrency", type=_count, default=32, help="connections, one request on each")
    add("--adapter-latency-ms", type=_amount, default=15.0, help="the stand-in's time for a call")
    add("--budget-p95-ms", type=_amount, default=300.0)
    add("--budget-cycle-s", type=_amount, default=60.0, help="for the whole run")
    add("--budget-fallback-fraction", type=_amount, default=0.05, help="0 to 1")
    add("--url", type=_url, help="measure this running service instead of starting one")
    add("--points", type=_count, default=288)
    add("--horizon", type=_count, default=12)
    add("--model", default="chronos2", help="the name in the requests")
    add("--warm-up", type=int, default=20, help="requests before the measured ones")
    add("--seed", type=int, default=0)
    add("--json", action="store_true", help="print JSON for programs")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number over 0")
    return int(text)


def _amount(text: str) -> float:
    try:
        number = float(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from exc
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return number


def _url(text: str) -> str:
    try:
        endpoint(text, "/")
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    return text


if __name__ == "__main__":
    sys.exit(main())
