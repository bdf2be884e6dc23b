"""Does anything grow while impatient callers ask for hours?

    python -m loadtest.drills.soak --minutes 10 --rate 50
    python -m loadtest.drills.soak --minutes 60 --leave 0.5

The stand-in, the service, steady mixed traffic, and looks at every process. The last line is
``SOAK_PASS`` or ``SOAK_FAIL: why``. The kinds of requests:

unique    a new window: the model has to run
cached    one of a few known requests
fallback  an illiquid market, which the baseline answers
batch     some unique windows, as JSON
ndjson    the same, each result as soon as it is computed
bad       a request that must be refused
"""

import argparse
import asyncio
import contextlib
import random
import re
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle, islice
from statistics import linear_regression, median
from time import perf_counter
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from loadtest.drills import harness
from loadtest.drills.harness import JSON, NDJSON, Client, Sample
from loadtest.drills.parts.processes import OURS, Reading, readings_of
from loadtest.payloads import Shape, batch_body, encode, forecast_bodies, windows
from loadtest.service import Service

SETTINGS = {  # what is kept up to a number is full within the warm-up: a slope is a leak
    "TSFM_CACHE__MAX_ENTRIES": "500",
    "TSFM_CONFORMAL__MAX_MARKETS": "50",  # these where learning is on
    "TSFM_CONFORMAL__MAX_PENDING_PER_MARKET": "12",
    "TSFM_CONFORMAL__MAX_QUEUED": "500",
    "TSFM_CONFORMAL__ROLLING_POINTS": "100",
}
SHAPE = Shape(model="mock", points=96)
CALM_S = 10.0  # for what is under way to end once nobody asks any more
FEWEST_LOOKS = 5
MEASURED = {"pss_mb": "PSS MB", "own_mb": "own MB", "fds": "open files", "threads": "threads"}
GAUGES = ("tsfm_tasks", "tsfm_kept_answers", "tsfm_in_flight", "tsfm_queued_items")
MARKETS, BATCH_ITEMS = 40, 8  # so few markets that each is known after the warm-up
EVERY_S = 5.0  # between two looks at the processes
LIMIT_MB_PER_HOUR = 10.0  # of each process of ours: one of 250 MB then doubles in a day
NOISE_MB = 3.0  # growth of an allocator in a run without leaks
LIMIT_FDS = 20  # callers' connections come and go
LIMIT_THREADS = 4  # pools fill up to their size
LIMIT_GAUGES = 20  # tasks, queued items, kept answers
WEIGHTS = {"unique": 40, "cached": 30, "fallback": 10, "batch": 5, "ndjson": 5, "bad": 10}
BAD_BODIES = (
    b"",
    b"{",
    b"\xff\xfe\x00",
    b"[" * 500,
    b'{"requests": []}',
    b'{"market_id": "m", "y": [0.1, NaN]}',
    b'{"market_id": "m", "y": "' + b"9" * 5000 + b'"}',
)
TIMEOUT_S = 40.0  # over a batch's own deadline
FIRST_GUESS_S = 0.1
REMEMBERED = 50  # latencies of a kind, for how long its answers usually take
OPTIONS: dict[str, tuple[Any, str]] = {
    "--minutes": (10.0, "of traffic"),
    "--rate": (50.0, "requests a second, sent without waiting for answers"),
    "--leave": (0.2, "share of callers who disconnect early, 0 to 1"),
}


# The requests, and which of them are closed before the answer


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; an impatient caller closes it after ``leaves_after`` of the usual time."""

    kind: str
    body: bytes
    items: int | None = None  # of a batch
    leaves_after: float | None = None  # 0 to 1; None waits


def asks(shape: Shape, leave_fraction: float, seed: int = 0) -> Iterator[Ask]:
    """Requests without end; the same for the same arguments."""
    chance = random.Random(seed)
    known = forecast_bodies(MARKETS, shape, seed + 1)
    feeds = [windows(number, shape, seed) for number in range(MARKETS)]
    fresh = (next(feed) for feed in cycle(feeds))
    illiquid, bad = replace(shape, liquidity="low"), cycle(BAD_BODIES)
    while True:
        (kind,) = chance.choices([*WEIGHTS], [*WEIGHTS.values()])
        items = BATCH_ITEMS if kind in ("batch", "ndjson") else None
        if items:
            body = batch_body([encode(window, shape) for window in islice(fresh, items)])
        elif kind == "cached":
            body = chance.choice(known)
        elif kind == "bad":
            body = next(bad)
        else:
            body = encode(next(fresh), illiquid if kind == "fallback" else shape)
        leaves = chance.random() < leave_fraction
        yield Ask(kind, body, items, chance.random() if leaves else None)


class Callers:
    """Sends requests of all kinds; ``left`` counts those that were closed, by kind."""

    def __init__(self, url: str, shape: Shape) -> None:
        self._client = Client(url, shape, TIMEOUT_S)
        self._recent_s: defaultdict[str, deque[float]] = defaultdict(
            lambda: deque([FIRST_GUESS_S], maxlen=REMEMBERED)
        )
        self.samples: defaultdict[str, list[Sample]] = defaultdict(list)
        self.left = Counter[str]()

    async def ask(self, ask: Ask) -> None:
        recent_s = self._recent_s[ask.kind]
        patience_s = None if ask.leaves_after is None else ask.leaves_after * median(recent_s)
        accept = NDJSON if ask.kind == "ndjson" else JSON
        try:
            async with asyncio.timeout(patience_s):
                found = await self._client.send_any(ask.body, ask.kind, ask.items, accept)
        except TimeoutError:
            self.left[ask.kind] += 1
            return
        recent_s.append(found[0].latency_ms / 1e3)
        self.samples[ask.kind] += map(refusal, found) if ask.kind == "bad" else found

    def close(self) -> None:
        self._client.close()


def refusal(sample: Sample) -> Sample:
    """The sample of a bad request, which must get a 4xx of the documented form."""
    problem = sample.problem or "status 200"
    refused = re.fullmatch(r"status 4\d\d", problem)
    return replace(sample, problem=None if refused else f"{problem} for a bad request")


# The run: requests, and looks at every process


@dataclass(frozen=True, slots=True)
class Look:
    """All processes at one moment, by id, in seconds since the traffic began."""

    at_s: float
    readings: Mapping[int, Reading]
    gauges: Mapping[str, float] = field(default_factory=dict)  # what the service tells of itself


@dataclass(slots=True)
class Found:
    """The measurements of a run; ``in_flight`` is the number of requests left at the end."""

    samples: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    left: Counter[str] = field(default_factory=Counter)
    looks: list[Look] = field(default_factory=list)
    in_flight: int | None = None


def main(argv: list[str] | None = None) -> int:
    args = harness.options("drills.soak", __doc__, argv, OPTIONS)
    found = Found()
    return harness.judged("SOAK", partial(_run, args, found), partial(report, found, args.minutes))


def _run(args: argparse.Namespace, found: Found) -> None:
    with harness.standing(37.0, 0.9, SETTINGS, log_lines=5) as (service, _):
        asyncio.run(_ask_and_look(service, args, found))


async def _ask_and_look(service: Service, args: argparse.Namespace, found: Found) -> None:
    callers = Callers(service.url, SHAPE)
    found.samples, found.left = callers.samples, callers.left
    requests = asks(SHAPE, args.leave)
    last = int(args.rate * args.minutes * 60)
    looking = asyncio.create_task(_look_every(service, found))
    try:
        await harness.at_rate(args.rate, lambda _: callers.ask(next(requests)), lambda n: n < last)
    finally:
        looking.cancel()
        callers.close()
    found.in_flight = await _in_flight_at_the_end(service.url)


async def _look_every(service: Service, found: Found) -> None:
    began = perf_counter()
    while True:
        at_s = perf_counter() - began
        look = await asyncio.to_thread(_look, service, at_s)
        found.looks.append(look)
        total_mb = sum(reading.pss_mb for reading in look.readings.values())
        harness.say(
            f"{at_s:5.0f} s: {sum(map(len, found.samples.values()))} answers, "
            f"{len(look.readings)} processes, {total_mb:.0f} MB"
        )
        await asyncio.sleep(max(0.0, at_s + EVERY_S - (perf_counter() - began)))


def _look(service: Service, at_s: float) -> Look:
    try:
        metrics = httpx.get(f"{service.url}/metrics", timeout=5, trust_env=False).text
    except httpx.HTTPError:
        metrics = ""
    return Look(at_s, readings_of(service.processes()), gauges_of(metrics))


def gauges_of(metrics: str) -> dict[str, float]:
    """Sums over the replicas of a deployment, by deployment and gauge."""
    found: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples if family.name in GAUGES else []:
            words = (sample.labels.get("deployment", "?"), family.name, sample.labels.get("cache"))
            found[" ".join(filter(None, words))] += sample.value
    return dict(found)


async def _in_flight_at_the_end(url: str) -> int | None:
    """Requests in flight after the last caller left; those that stay after ``CALM_S`` hang."""
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


# From looks to tables and to pass or fail


@dataclass(frozen=True, slots=True)
class Row:
    """One process over the window; ``ends`` has the start and the end of each reading."""

    name: str
    ends: Mapping[str, tuple[float, float]]
    mb_per_hour: float  # of its own memory

    @property
    def ours(self) -> bool:
        return self.name in OURS


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Medians of the first and the last fifth."""
    fifth = max(1, len(values) // 5)
    return median(values[:fifth]), median(values[-fifth:])


def rows_of(looks: Sequence[Look]) -> list[Row]:
    """A row for each process that was there all the time, ours first; none without a window."""
    found = [_row(looks, pid) for pid in sorted(_always_there(looks)) if len(looks) > 1]
    return sorted(found, key=lambda row: (not row.ours, row.name))


def _always_there(looks: Sequence[Look]) -> set[int]:
    return set.intersection(*(set(look.readings) for look in looks)) if looks else set()


def _row(looks: Sequence[Look], pid: int) -> Row:
    readings = [look.readings[pid] for look in looks]
    ends = {what: _ends([getattr(one, what) for one in readings]) for what in MEASURED}
    own_mb = [reading.own_mb for reading in readings]
    mb_per_s = linear_regression([look.at_s for look in looks], own_mb).slope
    return Row(readings[-1].name, ends, mb_per_s * 3600)


def gauge_rows(looks: Sequence[Look]) -> dict[str, tuple[float, float]]:
    """Medians of a gauge in the first and the last fifth of its samples."""
    names = sorted({name for look in looks for name in look.gauges})
    return {n: _ends([look.gauges[n] for look in looks if n in look.gauges]) for n in names}


def replaced(looks: Sequence[Look]) -> list[str]:
    """Processes of the project that started or ended: in a quiet run there is none."""
    kept, seen = _always_there(looks), dict[int, Reading]()
    for look in looks:
        seen |= look.readings
    gone = Counter(r.name for pid, r in seen.items() if pid not in kept and r.name in OURS)
    return [f"{count} {name} came or went" for name, count in gone.items()]


def report(found: Found, minutes: float) -> tuple[str, list[str]]:
    """The tables of the traffic, the processes and the gauges, and every broken promise."""
    first_s = min(300.0, minutes * 20)  # the warm-up is a third of the run, five minutes at most
    looks = [look for look in found.looks if look.at_s >= first_s]
    gauges = gauge_rows(looks).items()
    texts = [
        harness.table(_traffic(k, found.samples.get(k, []), found.left[k]) for k in _kinds(found)),
        harness.table(map(_cells, rows_of(looks))),
        harness.table({"gauge": name, "start, end": _pair(ends)} for name, ends in gauges),
    ]
    return "\n\n".join(texts), failures(looks, found)


def failures(looks: Sequence[Look], found: Found) -> list[str]:
    if len(looks) < FEWEST_LOOKS:
        return [f"only {len(looks)} looks after the warm-up: run longer"]
    broken = replaced(looks)
    broken += [words for row in rows_of(looks) if row.ours for words in _growth(row)]
    broken += _gauge_growth(gauge_rows(looks))
    broken += [words for kind in _kinds(found) for words in _bad(kind, found.samples.get(kind, []))]
    if found.in_flight != 0:
        left = "unknown" if found.in_flight is None else found.in_flight
        broken.append(f"requests still under way when all had gone: {left}")
    return broken


def _growth(row: Row) -> list[str]:
    found, (first_mb, last_mb) = [], row.ends["own_mb"]
    # growth under NOISE_MB in the whole window is not told from noise
    if row.mb_per_hour > LIMIT_MB_PER_HOUR and last_mb - first_mb > NOISE_MB:
        allowed = f"{LIMIT_MB_PER_HOUR:g} allowed"
        found.append(f"{row.name}: grows {row.mb_per_hour:.0f} MB/h, {allowed}")
    found += _rise(f"{row.name}: open files", row.ends["fds"], LIMIT_FDS)
    return found + _rise(f"{row.name}: threads", row.ends["threads"], LIMIT_THREADS)


def _gauge_growth(found: Mapping[str, tuple[float, float]]) -> list[str]:
    if not found:
        return ["GET /metrics had no gauges"]
    return [words for name, ends in found.items() for words in _rise(name, ends, LIMIT_GAUGES)]


def _rise(what: str, ends: tuple[float, float], limit: int) -> list[str]:
    first, last = ends
    return [f"{what} rose from {first:.0f} to {last:.0f}"] if last - first > limit else []


def _kinds(found: Found) -> list[str]:
    return sorted({*found.samples, *found.left})


def _bad(kind: str, samples: Sequence[Sample]) -> list[str]:
    if all(sample.problem for sample in samples):
        return [f"{kind}: nothing valid of {len(samples)}"]
    return [f"{kind}: {words}" for words in harness.bad_answers(samples)]


def _pair(ends: tuple[float, float]) -> str:
    return "{:.1f} > {:.1f}".format(*ends)


def _cells(row: Row) -> dict[str, object]:
    readings = {name: _pair(row.ends[what]) for what, name in MEASURED.items()}
    return {"process": row.name, **readings, "own MB/h": f"{row.mb_per_hour:+.1f}"}


def _traffic(kind: str, samples: Sequence[Sample], left: int) -> dict[str, object]:
    """Times are of those who waited."""
    invalid = harness.problems_of(samples).total()
    counts = {"forecasts": len(samples), "valid": len(samples) - invalid, "invalid": invalid}
    return {"kind": kind, **counts, "left": left, **harness.times(samples, 50, 95, 99, 100)}


if __name__ == "__main__":
    sys.exit(main())
