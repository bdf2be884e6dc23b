"""Does the service keep its promises on this machine?

    python -m loadtest.bench --requests 200 --unique 20 --budget-p95-ms 300 --budget-cycle-s 60

Starts the stand-in and the service, or takes a running one, and measures. The last line is
``SLO_PASS`` or ``SLO_FAIL: why``; the exit code says the same. With ``--json`` there are numbers
alone, and an empty ``broken`` is a pass.
"""

import argparse
import asyncio
import json
import math
import socket
import sys
from collections.abc import Sequence
from itertools import cycle, islice
from time import perf_counter
from typing import Any

from loadtest.drills.harness import (
    Client,
    Sample,
    closed_loop,
    early_end,
    exit_code,
    last_line,
    options,
    percentiles_ms,
    problems_of,
    standing,
)
from loadtest.http_client import endpoint
from loadtest.payloads import Shape, forecast_bodies

WARM_UP_SEED = 1_000_003  # other markets than those measured: the cache must not know them
TIMEOUT_S = 30.0


def address(text: str) -> str:
    """Raises ValueError where ``text`` is no address of a service."""
    endpoint(text, "/")
    return text


OPTIONS: dict[str, tuple[Any, str]] = {
    "--requests": (200, "how many are sent"),
    "--unique": (20, "how many markets they are about"),
    "--concurrency": (32, "connections, one request on each"),
    "--adapter-latency-ms": (15.0, "the stand-in's time for a call"),
    "--budget-p95-ms": (300.0, "for every request, good or bad"),
    "--budget-cycle-s": (60.0, "for the whole run"),
    "--budget-fallback-fraction": (0.05, "0 to 1"),
    "--url": (address, "measure this running service instead of starting one"),
    "--points": (288, "of each series"),
    "--horizon": (12, "steps"),
    "--model": ("chronos2", "the name in the requests"),
    "--warm-up": (20, "requests before the measured ones"),
    "--seed": (0, "of the markets"),
    "--json": (False, "print JSON for programs"),
}


def main(argv: list[str] | None = None) -> int:
    args = options("bench", __doc__, argv, OPTIONS)
    if args.url and not listens(args.url):
        where = "nothing listens there, or the name is unknown"
        print(last_line("SLO", [f"The service at {args.url} cannot be reached: {where}."]))
        return 2
    broken, texts = list[str](), list[str]()
    with early_end(broken):
        if args.url:
            samples, elapsed_s = asyncio.run(measure(args.url, args))
        else:
            with standing(args.adapter_latency_ms, 0.0) as (service, _):
                samples, elapsed_s = asyncio.run(measure(service.url, args))
        numbers = numbers_of(samples, elapsed_s)
        broken += failures(samples, numbers, args)
        texts.append(for_programs(samples, numbers, broken) if args.json else table(numbers))
    if not (args.json and texts):
        texts.append(last_line("SLO", broken))
    print(*texts, sep="\n")
    return exit_code(broken)


async def measure(url: str, args: argparse.Namespace) -> tuple[list[Sample], float]:
    """Warms the service up, then measures it; the samples and the seconds they took."""
    shape = Shape(points=args.points, horizon=args.horizon, model=args.model)
    client = Client(url, shape, TIMEOUT_S)
    others = forecast_bodies(args.warm_up, shape, WARM_UP_SEED)
    await closed_loop(client.send, others, args.concurrency)
    client.samples.clear()
    bodies = list(islice(cycle(forecast_bodies(args.unique, shape, args.seed)), args.requests))
    began = perf_counter()
    await closed_loop(client.send, bodies, args.concurrency)
    elapsed_s = perf_counter() - began
    client.close()
    return client.samples, elapsed_s


def listens(url: str) -> bool:
    place = endpoint(url, "/")
    try:
        socket.create_connection((place.host, place.port), timeout=5).close()
    except OSError:
        return False
    return True


def numbers_of(samples: Sequence[Sample], elapsed_s: float) -> dict[str, float]:
    """The run in numbers by the name they have for programs; NaN where nothing was measured."""
    count, many = len(samples), max(1, len(samples))
    p50_ms, p95_ms, p99_ms = percentiles_ms(samples, 50, 95, 99)
    return {
        "requests": count,
        "elapsed_s": elapsed_s,
        "per_second": count / elapsed_s,
        "p50_ms": p50_ms,
        "p95_ms": p95_ms,
        "p99_ms": p99_ms,
        "cache_hit_share": sum(sample.cached for sample in samples) / many,
        "fallback_share": sum(sample.fallback for sample in samples) / many,
        "bad_answers": problems_of(samples).total(),
    }


def failures(
    samples: Sequence[Sample], numbers: dict[str, float], budgets: argparse.Namespace
) -> list[str]:
    """Every promise the run broke, in words; ``budgets`` are the options."""
    broken = []
    if problems := problems_of(samples):
        worst, count = problems.most_common(1)[0]
        of = f"{problems.total()} of {len(samples)}"
        broken.append(f"{of} answers are bad ({count}x {worst})")
    if not numbers["p95_ms"] <= budgets.budget_p95_ms:
        broken.append(f"p95 {numbers['p95_ms']:.1f} ms is over {budgets.budget_p95_ms:g} ms")
    if numbers["elapsed_s"] > budgets.budget_cycle_s:
        broken.append(
            f"the cycle took {numbers['elapsed_s']:.1f} s of {budgets.budget_cycle_s:g} s"
        )
    if numbers["fallback_share"] > budgets.budget_fallback_fraction:
        share = f"{numbers['fallback_share']:.1%} of {budgets.budget_fallback_fraction:.1%}"
        broken.append(f"too many answers came from the fallback ({share})")
    return broken


def table(numbers: dict[str, float]) -> str:
    rows = {
        "requests": "{requests:.0f}",
        "elapsed": "{elapsed_s:.2f} s",
        "throughput": "{per_second:.1f} /s",
        "p50": "{p50_ms:.1f} ms",
        "p95": "{p95_ms:.1f} ms",
        "p99": "{p99_ms:.1f} ms",
        "cache hits": "{cache_hit_share:.1%}",
        "fallbacks": "{fallback_share:.1%}",
        "bad answers": "{bad_answers:.0f}",
    }
    return "\n".join(f"{name:<12}{row.format(**numbers):>12}" for name, row in rows.items())


def for_programs(
    samples: Sequence[Sample], numbers: dict[str, float], broken: Sequence[str]
) -> str:
    """The same as JSON; values without a measurement are null."""
    known = {name: None if math.isnan(n) else round(n, 4) for name, n in numbers.items()}
    problems = dict(problems_of(samples))
    return json.dumps(known | {"bad_answers": problems, "broken": list(broken)}, indent=2)


if __name__ == "__main__":
    sys.exit(main())
