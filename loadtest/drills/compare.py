"""Compares the service with its limits: an empty Serve application, and the runtime alone.

The empty applications run beside the service in the same Serve, with the same settings; a round
measures both sides of a comparison one after the other, so that a slower machine slows both. The
table says which limits are kept; a missed one fails no run, since machines differ.
"""

import argparse
import asyncio
import contextlib
import math
import os
import platform
import random
import statistics
import sys
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import accumulate, count, repeat, takewhile
from pathlib import Path
from time import perf_counter
from typing import Any

import orjson
import psutil

from loadtest.drills import harness
from loadtest.drills.parts.stages import (
    Timed,
    batch_stages,
    direct_calls,
    stage_table,
    stages_of,
)
from loadtest.http_client import Pool, endpoint
from loadtest.payloads import Shape, batch_body, forecast_bodies
from loadtest.service import read_config
from loadtest.stub.process import StubProcess

MARKETS = 1000
BATCH_SERIES = 128
CALLERS = (8, 16, 32, 64, 128)
TIMEOUT_S = 60.0
SHAPE = Shape(model="mock")  # it takes any number of series in a call
OPTIONS: dict[str, tuple[Any, str]] = {
    "--rounds": (5, "of everything"),
    "--scale": (1.0, "share of the requests of a round"),
    "--ms-per-call": (37.0, "of the stand-in"),
    "--ms-per-series": (0.9, "of the stand-in"),
    "--runtime-url": ("", "a tollama that runs already, with the model mock, for the stand-in"),
    "--plain": (False, "Serve's plain mode"),
    "--write": (Path, "also put the table on this page"),
}


def main(argv: list[str] | None = None) -> int:
    args = harness.options("drills.compare", __doc__, argv, OPTIONS)
    rounds: list[dict[str, float]] = []

    def drill() -> None:
        _measure(args, rounds)
        harness.publish(f"{_circumstances(args)}\n\n{tables_of(rounds)}\n", args.write, "bench")

    return harness.judged("COMPARE", drill, lambda: (tables_of(rounds), []))  # machines differ


def _measure(args: argparse.Namespace, rounds: list[dict[str, float]]) -> None:
    config, fast = with_noops(read_config()), not args.plain
    speed = (args.ms_per_call, args.ms_per_series)
    with contextlib.ExitStack() as stack:
        stub = None
        if args.runtime_url:
            urls = [args.runtime_url]
            started = harness.service_on(urls, {}, config=config, high_throughput=fast)
            service = stack.enter_context(started)
        else:
            both = harness.standing(*speed, config=config, high_throughput=fast)
            service, stub = stack.enter_context(both)
        for path in ("/noop/", "/noop2/"):
            service.wait_ready(path=path)
        asyncio.run(_rounds(service.url, stub, args, rounds))


def with_noops(config: dict[str, Any]) -> dict[str, Any]:
    """The Serve config with two empty applications beside the service, with its settings."""
    ours = {d["name"]: d for d in config["applications"][0]["deployments"]}
    empty = [
        {
            "name": name,
            "route_prefix": f"/{name}",
            "import_path": f"loadtest.drills.parts.noop_app:{builder}",
            "deployments": [{**ours["Ingress"], "name": d} for d in deployments],
        }
        for name, builder, deployments in (
            ("noop", "build_one", ["Noop"]),
            ("noop2", "build_two", ["Noop", "Echo"]),
        )
    ]
    return {**config, "applications": [*config["applications"], *empty]}


async def _rounds(
    url: str, stub: StubProcess | None, args: argparse.Namespace, rounds: list[dict[str, float]]
) -> None:
    field = Field(url, stub.url if stub else args.runtime_url, args.scale)
    await model_round(replace(field, scale=0.1))  # warm up
    for number in range(1, args.rounds + 1):
        harness.say(f"round {number} of {args.rounds}, the model")
        rounds.append(await model_round(field))
    if stub is None:
        return
    stub.control(fault="503")
    await field.forecasts(field.fresh(12), 1)  # the breaker opens
    for number in range(1, args.rounds + 1):
        harness.say(f"round {number} of {args.rounds}, the outage")
        rounds.append(await outage_round(field))


# What is measured


@dataclass(frozen=True, slots=True)
class Drive:
    answers: Sequence[Timed]
    per_second: float
    model_per_second: float  # without the baseline's answers
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Field:
    """The addresses, the scale of a run, and fresh markets for each measurement."""

    url: str
    runtime_url: str
    scale: float
    seeds: Iterator[int] = field(default_factory=lambda: count(1))

    def fresh(self, markets: int) -> list[bytes]:
        """Bodies of markets that were not asked for before."""
        return forecast_bodies(markets, SHAPE, next(self.seeds))

    def many(self, requests: int) -> int:
        return max(40, int(requests * self.scale))

    def forecasts(self, bodies: Iterable[bytes], connections: int) -> Awaitable[Drive]:
        return drive(self.url, harness.FORECAST, bodies, connections)

    def runtime(self, series: int, times: int) -> Awaitable[Drive]:
        """The runtime by itself, one call after the other."""
        return drive(self.runtime_url, "/v1/forecast", [runtime_call(series)] * times, 1)

    async def closed_loop(self, callers: int, requests: int, one_ms: float) -> dict[str, float]:
        """Callers that each wait for their answers, against one caller with as many series.

        ``one_ms`` is the time of a call of one series to the runtime. Two empty deployments, of
        which the second takes the time of the runtime, are there to compare with.
        """
        runtime = await self.runtime(callers, 8)
        bodies = self.fresh(self.many(requests))
        psutil.cpu_percent()  # it returns the mean since the last time
        service = await self.forecasts(bodies, callers)
        busy = psutil.cpu_percent() / 100
        empty = await self.empty(speed_of(one_ms, runtime.p50_ms, callers), callers, bodies)
        full_rate = runtime.per_second * callers
        return {
            f"on_top_ms_{callers}": service.p50_ms - runtime.p50_ms,
            f"rate_{callers}": service.model_per_second,
            f"by_model_{callers}": service.model_per_second / service.per_second,
            f"busy_{callers}": busy,
            f"share_{callers}": service.model_per_second / full_rate,
            f"empty_share_{callers}": empty.per_second / full_rate,
            f"gain_{callers}": service.model_per_second * one_ms / 1e3,
            f"p50_ratio_{callers}": service.p50_ms / runtime.p50_ms,
            f"p95_ms_{callers}": service.p95_ms,
            f"fairness_{callers}": service.p99_ms / service.p50_ms,
            **_stages_at(callers, service, one_ms, runtime.p50_ms),
        }

    def empty(
        self, speed: tuple[float, float], callers: int, bodies: Sequence[bytes]
    ) -> Awaitable[Drive]:
        """Two empty deployments; the second takes the time of a runtime of that ``speed_of``."""
        path = "/noop2/?call_ms={:.3f}&series_ms={:.3f}".format(*speed)
        return drive(self.url, path, bodies, callers)

    async def beside_a_batch(self) -> dict[str, float]:
        """32 callers while a batch is answered, against a batch on its own."""
        bodies, batch_at = self.fresh(4 * MARKETS), partial(drive, self.url, harness.FORECAST_BATCH)
        alone = await batch_at([batch_body(self.fresh(2 * MARKETS))], 1)
        other = asyncio.create_task(batch_at([batch_body(self.fresh(2 * MARKETS))], 1))
        beside = await self.forecasts(takewhile(lambda _: not other.done(), bodies), 32)
        batch = await other
        rate, rate_alone = _items_per_ms(batch), _items_per_ms(alone)
        shares = {"beside_batch_share": rate / rate_alone} if rate_alone else {}
        return {"beside_p95_ms": beside.p95_ms, **shares}

    async def poisson(self, per_second: int) -> dict[str, float]:
        """A stream of independent callers."""
        bodies = self.fresh(self.many(per_second * 6))
        found = await drive(self.url, harness.FORECAST, bodies, per_second=per_second, even=False)
        return {f"poisson_p95_ms_{per_second}": found.p95_ms}


async def drive(
    url: str,
    path: str,
    bodies: Iterable[bytes],
    connections: int = 0,
    per_second: float = 0.0,
    *,
    even: bool = True,
) -> Drive:
    """Every body once: each of ``connections`` one at a time, or at a rate, where late is slow.

    At a rate they are sent in even steps, or at random times.

    Raises:
        RuntimeError: an answer has another status than 200.
    """
    pool, answers, began = Pool(endpoint(url, path), TIMEOUT_S), list[Timed](), perf_counter()
    by_baseline = 0

    async def timed(body: bytes, due: float | None = None) -> None:
        sent = perf_counter() if due is None else due
        answer = await pool.ask(body)
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}: {answer.body[:200]!r}")
        answers.append(((perf_counter() - sent) * 1e3, answer.body))
        nonlocal by_baseline
        by_baseline += b'"fallback_used":true' in answer.body

    try:
        if connections:
            await harness.closed_loop(timed, bodies, connections)
        else:
            steps = repeat(1.0) if even else iter(partial(random.Random(1).expovariate, 1.0), None)
            async with asyncio.TaskGroup() as under_way:
                for body, due in zip(bodies, accumulate(steps), strict=False):
                    at = began + due / per_second
                    await asyncio.sleep(max(0.0, at - perf_counter()))
                    under_way.create_task(timed(body, at))
    finally:
        pool.close()
    took_s = perf_counter() - began
    rates = (len(answers) / took_s, (len(answers) - by_baseline) / took_s)
    found = sorted(ms for ms, _ in answers)
    return Drive(answers, *rates, *(harness.percentile(found, percent) for percent in (50, 95, 99)))


def _items_per_ms(batch: Drive) -> float:
    """The model's forecasts in the one answer of a batch."""
    ms, body = batch.answers[0]
    return body.count(b'"fallback_used":false') / ms


def speed_of(one_ms: float, all_ms: float, series: int) -> tuple[float, float]:
    """Ms a call and ms a series, from the times of calls of one series and of ``series``, >= 2.

    >>> speed_of(one_ms=38.0, all_ms=45.0, series=8)
    (37.0, 1.0)
    """
    series_ms = max(0.0, (all_ms - one_ms) / (series - 1))
    return one_ms - series_ms, series_ms


def _stages_at(callers: int, found: Drive, one_ms: float, all_ms: float) -> dict[str, float]:
    """Stages of a loop, named by its callers; the times are of direct calls, of one and of all."""
    stages = stages_of(found.answers, direct_calls(one_ms, callers, all_ms))
    return {f"{name}_{callers}": value for name, value in stages.items()}


def runtime_call(series: int) -> bytes:
    """One call of tollama's ``/v1/forecast`` with ``series`` series in log-odds."""
    points = range(SHAPE.points)
    times = [f"2026-02-{1 + at // 288:02}T{at // 12 % 24:02}:{at % 12 * 5:02}:00Z" for at in points]
    # eight decimals, as the service sends: digits cost a real tollama time
    targets = [[round(math.sin(s + i / 9), 8) for i in points] for s in range(series)]
    many = [
        {"id": f"s{s}", "freq": "5min", "timestamps": times, "target": target}
        for s, target in enumerate(targets)
    ]
    head = {"model": SHAPE.model, "horizon": SHAPE.horizon, "quantiles": SHAPE.levels}
    return orjson.dumps(head | {"series": many})


async def model_round(field: Field) -> dict[str, float]:
    """The platform, the cache, the runtime and the service in front of it."""
    many, noop_at = field.many, partial(drive, field.url, "/noop/")
    noop, alone = await noop_at([b"{}"] * many(4000), 32), await noop_at([b"{}"] * many(400), 1)
    known = field.fresh(50)
    await field.forecasts(known, 8)
    hits = await field.forecasts(known * (many(4000) // 50), 32)
    hit_alone = await field.forecasts(known * (many(400) // 50 + 1), 1)
    full = await field.runtime(BATCH_SERIES, 8)
    runtime = full.per_second * BATCH_SERIES
    # after direct calls: shortly after a single request the calls of a batch are kept short
    bulk = await drive(field.url, harness.FORECAST_BATCH, [batch_body(field.fresh(MARKETS))], 1)
    one = await field.runtime(1, 20)
    two_timed = await field.empty((one.p50_ms, 0.0), 1, field.fresh(40))
    loops = [await field.closed_loop(c, 400 + 12 * c, one.p50_ms) for c in CALLERS]
    streams = [await field.poisson(per_second) for per_second in (20, 50, 100)]
    lone = await field.forecasts(field.fresh(40), 1)
    direct = direct_calls(one.p50_ms, BATCH_SERIES, full.p50_ms)
    in_batch = batch_stages(bulk.answers[0], MARKETS, direct)
    beside = await field.beside_a_batch()
    bulk_rate = _items_per_ms(bulk) * 1e3
    return {
        "noop_rate": noop.per_second,
        "noop_p50_ms": alone.p50_ms,
        "hit_rate": hits.per_second,
        "hit_share": hits.per_second / noop.per_second,
        "hit_p50_ms": hit_alone.p50_ms,
        "runtime_rate": runtime,
        "runtime_single_rate": one.per_second,
        **{name: value for found in loops + streams for name, value in found.items()},
        "lone_extra_ms": lone.p50_ms - one.p50_ms,
        "empty_extra_ms": two_timed.p50_ms - one.p50_ms,
        "bulk_rate": bulk_rate,
        "bulk_share": bulk_rate / runtime,
        **_stages_at(1, lone, one.p50_ms, one.p50_ms),
        **{f"bulk_{name}": value for name, value in in_batch.items()},
        **beside,
    }


async def outage_round(field: Field) -> dict[str, float]:
    """An open breaker, against two empty deployments with a call between them."""
    two = await drive(field.url, "/noop2/", [b"{}"] * field.many(2000), 32)
    fallback = await field.forecasts(field.fresh(field.many(2000)), 32)
    bodies, nothing = field.fresh(field.many(1000)), [b"{}"] * field.many(1000)
    steady = await drive(field.url, harness.FORECAST, bodies, per_second=200.0)
    two_steady = await drive(field.url, "/noop2/", nothing, per_second=200.0)
    return {
        "noop2_rate": two.per_second,
        "fallback_rate": fallback.per_second,
        "fallback_share": fallback.per_second / two.per_second,
        "fallback200_p95_ms": steady.p95_ms,
        "noop200_p95_ms": two_steady.p95_ms,
    }


# The table


@dataclass(frozen=True, slots=True)
class Row:
    """One number: its name in a round, what it means, and the limit if there is one."""

    name: str
    meaning: str
    digits: int = 1
    at_least: float | None = None
    under: float | None = None

    @property
    def asked(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return "" if self.under is None else f"< {self.under:g}"

    def holds(self, value: float) -> bool:
        enough = self.at_least is None or value >= self.at_least
        return enough and (self.under is None or value < self.under)


ROWS = (
    Row("noop_rate", "empty ingress, 32 connections, requests/s", 0),
    Row("noop_p50_ms", "empty ingress, 1 connection, p50 ms", 2),
    Row("hit_rate", "cache hits, 32 connections, requests/s", 0),
    Row("hit_share", "cache hits as a share of the empty ingress", 2, at_least=0.7),
    Row("hit_p50_ms", "cache hit, 1 connection, p50 ms", 2, under=0.6),
    Row("runtime_rate", "runtime called directly, 128 series a call, series/s", 0),
    Row("runtime_single_rate", "runtime called directly, 1 series a call, series/s", 1),
    Row("rate_128", "128 callers, forecasts/s", 0),
    Row("gain_128", "128 callers, forecasts/s against one series a call, times", 1, at_least=25),
    Row("p95_ms_128", "128 callers, p95 ms", 0, under=400),
    Row("p95_ms_32", "32 callers, p95 ms", 0, under=200),
    *(
        row
        for c in CALLERS
        for row in (
            Row(f"share_{c}", f"{c} callers, share of the runtime at {c} a call", 2, at_least=0.7),
            Row(f"empty_share_{c}", "the same, two empty deployments that take its time", 2),
            Row(f"by_model_{c}", f"{c} callers, share of the answers that are the model's", 2),
            Row(f"busy_{c}", f"{c} callers, share of all cores that is in use", 2),
        )
    ),
    *(
        Row(
            f"p50_ratio_{c}",
            f"{c} callers, p50 divided by the time of a call of {c} series",
            2,
            under=1.5,
        )
        for c in (8, 16, 32)
    ),
    *(
        Row(f"on_top_ms_{c}", f"{c} callers, p50 ms on top of a call of {c} series", 1)
        for c in (8, 16, 32)
    ),
    Row("fairness_128", "128 callers, p99 divided by p50", 2, under=3),
    *(
        Row(f"poisson_p95_ms_{rate}", f"{rate} requests/s at random times, p95 ms", 0, under=250)
        for rate in (20, 50, 100)
    ),
    Row("lone_extra_ms", "one connection, median ms on top of the runtime", 1, under=6),
    Row("empty_extra_ms", "the same, two empty deployments that take its time", 1),
    Row("bulk_rate", "1,000 markets in one batch, forecasts/s", 0),
    Row("bulk_share", "the batch as a share of the runtime's rate", 2, at_least=0.88),
    Row("bulk_direct_ms", "the batch, ms: as many direct calls to the runtime", 0),
    Row("bulk_over_ms", "the batch, ms: what its calls took beyond that", 0),
    Row("bulk_rest_ms", "the batch, ms: before, between and after its calls", 0),
    Row("beside_p95_ms", "32 callers while a batch of 2,000 is answered, p95 ms", 0, under=300),
    Row("beside_batch_share", "the batch then, as a share of its rate alone", 2, at_least=0.5),
    Row("noop2_rate", "two empty deployments, 32 connections, requests/s", 0),
    Row("fallback_rate", "open breaker, 32 connections, forecasts/s", 0),
    Row("fallback_share", "open breaker as a share of two empty deployments", 2, at_least=0.6),
    Row("fallback200_p95_ms", "open breaker, 200 requests/s open loop, p95 ms", 1, under=20),
    Row("noop200_p95_ms", "the same, two empty deployments", 1),
)


def tables_of(rounds: Sequence[dict[str, float]]) -> str:
    stages = stage_table(rounds, (1, *CALLERS))
    where = "Where the time of a forecast goes: medians of the rounds' means, in ms"
    return f"{table_of(rounds)}\n\n{where}\n\n{stages}" if stages else table_of(rounds)


def table_of(rounds: Sequence[dict[str, float]]) -> str:
    values = [(row, [one[row.name] for one in rounds if row.name in one]) for row in ROWS]
    return harness.table(cells(row, found) for row, found in values if found)


def cells(row: Row, values: Sequence[float]) -> dict[str, object]:
    """The cells of a row, with the median, least and most of its values."""
    numbers = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    written = {name: f"{value:,.{row.digits}f}" for name, value in numbers.items()}
    verdict = "" if not row.asked else "yes" if row.holds(numbers["median"]) else "**no**"
    return {"what": row.meaning, "asked": row.asked, **written, "": verdict}


def _circumstances(args: argparse.Namespace) -> str:
    mode = "plain mode" if args.plain else "high-throughput mode"
    speed = f"{args.ms_per_call:g} ms a call and {args.ms_per_series:g} ms a series"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, {mode}; {args.rounds} rounds, scale {args.scale:g}; "
        f"runtime {'a real tollama' if args.runtime_url else speed}; "
        f"{SHAPE.points} points, horizon {SHAPE.horizon}, {len(SHAPE.levels)} levels."
    )


if __name__ == "__main__":
    sys.exit(main())
