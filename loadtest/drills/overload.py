"""Offers more than the service can do; measures what is shed, and the latency of the rest.

    python -m loadtest.drills.overload
    python -m loadtest.drills.overload --rate 80 --times 3 --times 8

Finds the rate that the service sustains, offers three times as much, then many batches at once.
The last line is ``OVERLOAD_PASS`` or ``OVERLOAD_FAIL: why``.

A forecast is admitted if it was answered with bands of any source. It is shed if these are not the
model's, or came after the load was over. The order of shedding is checked by shares: the share of
batch items that are shed is never less than that of interactive requests, and no request is refused
while none gets the baseline.
"""

import argparse
import asyncio
import heapq
import math
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from time import perf_counter
from typing import Any

from loadtest.drills import harness
from loadtest.drills.harness import Sample
from loadtest.http_client import Pool, endpoint
from loadtest.payloads import Shape, batch_body, encode, read, windows

SHAPE = Shape(model="mock", points=96)
INTERACTIVE, BATCH = "interactive", "batch"
OVERLOADED = "overloaded"
REFUSALS = ("status 429", "status 503")
TOLERANCE = 0.02  # of shares: a few requests at the edges of a run
MODEL_SHARE = 0.99  # of the answers where a load is sustained
DEADLINE_MS = 1500.0  # the service's own, of an interactive request
TIMEOUT_S = 60.0
GROWTH, MOST_TRIES = 1.5, 12  # of the search
SETTINGS = {  # a run ends when its last batch does
    "TSFM_REQUEST__BATCH_DEADLINE_MS": "10000",
    "TSFM_CONFORMAL__LEARNED_FILE": "null",
}
SECONDS = 20.0  # of each load
START_RATE, STEP_S = 30.0, 5.0  # first rate of the search, and seconds of each load of it
CALM_S = 3.0  # between the overload and the last load
BATCH_SHARE, BATCH_ITEMS = 0.3, 32  # share of batch items among the forecasts, items of a batch
P95_MS = 300.0  # budget of interactive answers: slo.p95_ms
CYCLE_S = 60.0  # budget of a batch: slo.cycle_s
OPTIONS: dict[str, tuple[Any, str]] = {
    "--rate": (float, "forecasts a second that are sustained; by default searched for"),
    "--times": (list[float](), "the loads after that, as multiples of the rate; default 3"),
    "--crowd": (20, "number of batches sent at once"),
    "--crowd-items": (2000, "items in each of these"),
    "--crowd-rate": (20.0, "single requests a second at the same time"),
    "--ms-per-call": (40.0, "time of a call of the stand-in"),
    "--ms-per-series": (8.0, "time of each series: the runtime is the limit"),
}


# A load


@dataclass(frozen=True, slots=True)
class Departure:
    """One request and when it leaves, in seconds."""

    at_s: float
    kind: str
    items: int


def load(per_second: float, seconds: float, batch_share: float, items: int) -> list[Departure]:
    """Forecasts at a rate, a share of them in batches; both kinds evenly spaced."""
    single = _evenly(INTERACTIVE, per_second * (1 - batch_share), seconds, 1)
    batches = _evenly(BATCH, per_second * batch_share / items, seconds, items)
    return list(heapq.merge(single, batches, key=lambda departure: departure.at_s))


def crowd(per_second: float, seconds: float, batches: int, items: int) -> list[Departure]:
    """Single requests evenly spaced, and after a second all ``batches`` at once."""
    single = _evenly(INTERACTIVE, per_second, seconds, 1)
    at_once = [Departure(1.0, BATCH, items)] * batches
    return list(heapq.merge(single, at_once, key=lambda departure: departure.at_s))


def _evenly(kind: str, per_second: float, seconds: float, items: int) -> Iterator[Departure]:
    for number in range(int(per_second * seconds)):
        yield Departure(number / per_second, kind, items)


@dataclass(frozen=True, slots=True)
class Seen:
    """The result of one forecast; an item of a batch takes as long as its batch."""

    kind: str
    sample: Sample
    retry_after: bool = False

    @property
    def refused(self) -> bool:
        return (self.sample.problem or "").startswith(REFUSALS)


class Offerer:
    """Sends loads without waiting for answers; no two series are the same."""

    def __init__(self, url: str, shape: Shape) -> None:
        paths = {INTERACTIVE: harness.FORECAST, BATCH: harness.FORECAST_BATCH}
        self._pools = {k: Pool(endpoint(url, path), TIMEOUT_S) for k, path in paths.items()}
        self._shape = shape
        self._numbers = count()

    async def offer(
        self, requests: Sequence[Departure], seconds: float
    ) -> tuple[list[Seen], float]:
        """Sends a load; returns all results, and when the load was over."""
        leaving = [(one, self._body(one)) for one in requests]
        began = perf_counter()
        tasks = []
        for departure, body in leaving:
            await asyncio.sleep(max(0.0, began + departure.at_s - perf_counter()))
            # a delay in the generator counts as latency too
            due = began + departure.at_s
            tasks.append(asyncio.create_task(self._one(departure, body, due)))
        return [one for task in tasks for one in await task], began + seconds

    def _body(self, departure: Departure) -> bytes:
        numbers = (next(self._numbers) for _ in range(departure.items))
        bodies = [encode(next(windows(number, self._shape)), self._shape) for number in numbers]
        return bodies[0] if departure.kind == INTERACTIVE else batch_body(bodies)

    async def _one(self, departure: Departure, body: bytes, due: float) -> list[Seen]:
        kind = departure.kind
        try:
            answer = await self._pools[kind].ask(body)
        except OSError as exc:
            lost = Sample(due, perf_counter(), type(exc).__name__, lost=True)
            return [Seen(kind, lost)] * departure.items
        done, content = perf_counter(), read(answer.body)
        parts = _parts(content, departure) if answer.status == 200 else []
        if not parts:
            sample = harness.judge(due, done, answer.status, content, self._shape)
            return [Seen(kind, sample, answer.retry_after)] * departure.items
        return [Seen(kind, harness.judge(due, done, 200, part, self._shape)) for part in parts]

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


def _parts(answer: object, departure: Departure) -> Sequence[object]:
    """The forecasts in an answer; none if their number is wrong."""
    if departure.kind == INTERACTIVE:
        return [answer]
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list) or len(results) != departure.items:
        return []
    return [result.get("ok") for result in results]


# From results to rows of the table, and to pass or fail

HEAD = (
    "load | kind | offered | model | of it in the load | stale | baseline, overloaded "
    "| baseline, other | refused | with Retry-After | valid of admitted "
    "| p50 ms | p95 ms | p99 ms | max ms | other reasons"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of forecasts under one load, which was over at ``over_s``."""

    load: str
    kind: str
    seen: Sequence[Seen]
    over_s: float = math.inf

    @property
    def refused(self) -> list[Seen]:
        return [one for one in self.seen if one.refused]

    @property
    def admitted(self) -> list[Sample]:
        return [one.sample for one in self.seen if not one.refused]

    @property
    def problems(self) -> Counter[str]:
        return harness.problems_of(self.admitted)

    @property
    def reasons(self) -> Counter[str]:
        """Fallback reasons of the baseline's answers."""
        return Counter(s.reason or "?" for s in self.admitted if s.source == "baseline")

    @property
    def by_model(self) -> list[Sample]:
        return [sample for sample in self.admitted if sample.source == "model"]

    @property
    def served(self) -> int:
        """Number of model answers while the load lasted."""
        return sum(sample.done_s <= self.over_s for sample in self.by_model)

    @property
    def shed_share(self) -> float:
        """Share of the offered forecasts that the model did not answer while the load lasted."""
        return 1 - self.served / len(self.seen) if self.seen else 0.0

    def ms(self, *percents: float) -> list[float]:
        """Percentiles of the latency of admitted forecasts."""
        return harness.percentiles_ms(self.admitted, *percents)


def rows_of(name: str, seen: Sequence[Seen], over_s: float = math.inf) -> list[Row]:
    kinds = (INTERACTIVE, BATCH)
    return [Row(name, kind, [s for s in seen if s.kind == kind], over_s) for kind in kinds]


def is_sustained(rows: Sequence[Row], seconds: float) -> bool:
    """Whether nearly all answers of a load were the model's, valid and in time.

    A batch that takes a third of the ``seconds`` of the load shows that work piles up.
    """
    interactive, batch = rows
    answered = all(
        len(row.by_model) >= MODEL_SHARE * len(row.seen) and not (row.problems or row.refused)
        for row in rows
    )
    late = interactive.ms(95)[0] > P95_MS or batch.ms(95)[0] > seconds * 1e3 / 3
    return answered and not late


def failures(rows: Sequence[Row]) -> list[str]:
    """Every promise that a load broke, from its two rows."""
    interactive, batch = rows
    found = [*_bad(interactive), *_bad(batch), *_late(interactive)]
    longest_s = batch.ms(100)[0] / 1e3
    if longest_s > CYCLE_S:
        found.append(f"{batch.kind}: a batch took {longest_s:.1f} s of {CYCLE_S:g} s")
    if interactive.shed_share > batch.shed_share + TOLERANCE:
        shares = f"{interactive.shed_share:.0%} against {batch.shed_share:.0%}"
        found.append(f"interactive requests are shed before batch items ({shares})")
    if interactive.refused and not interactive.reasons[OVERLOADED]:
        found.append("requests are refused before any is given to the baseline")
    return [f"{interactive.load}: {words}" for words in found]


def _bad(row: Row) -> list[str]:
    found = [
        f"{row.kind}: {words}" for words in harness.bad_answers(row.problems, len(row.admitted))
    ]
    if missing := sum(not one.retry_after for one in row.refused):
        of = f"{missing} of {len(row.refused)}"
        found.append(f"{row.kind}: {of} refused without Retry-After")
    return found


def _late(row: Row) -> list[str]:
    p95_ms, most_ms = row.ms(95, 100)
    found = []
    if not p95_ms <= P95_MS:
        found.append(f"{row.kind}: p95 {p95_ms:.0f} ms is over {P95_MS:g} ms")
    if most_ms > DEADLINE_MS + harness.TOLERANCE_MS:
        found.append(f"{row.kind}: an answer took {most_ms:.0f} ms")
    return found


def cells(row: Row) -> list[object]:
    overloaded = row.reasons[OVERLOADED]
    other = Counter({r: n for r, n in row.reasons.items() if r != OVERLOADED}) + row.problems
    stale = sum(sample.source == "stale" for sample in row.admitted)
    return [
        row.load,
        row.kind,
        *(len(row.seen), len(row.by_model), row.served, stale),
        *(overloaded, row.reasons.total() - overloaded),
        *(len(row.refused), sum(one.retry_after for one in row.refused)),
        harness.valid_share(row.admitted),
        *(f"{ms:.0f}" for ms in row.ms(50, 95, 99, 100)),
        harness.counted(other) or "-",
    ]


# The command


def main(argv: list[str] | None = None) -> int:
    args = harness.options("overload", __doc__, argv, OPTIONS)
    rows: list[Row] = []
    broken: list[str] = []

    def drill() -> None:
        speed = (args.ms_per_call, args.ms_per_series)
        with harness.standing(*speed, SETTINGS, log_lines=5) as stand:
            asyncio.run(_drill(Offerer(stand.url, SHAPE), args, rows, broken))

    return harness.judged(
        "OVERLOAD", drill, lambda: (harness.table(HEAD, map(cells, rows)), broken)
    )


async def _drill(
    offerer: Offerer, args: argparse.Namespace, rows: list[Row], broken: list[str]
) -> None:
    async def offered(name: str, per_second: float, seconds: float = SECONDS) -> list[Row]:
        requests = load(per_second, seconds, BATCH_SHARE, BATCH_ITEMS)
        return await _offered(offerer, f"{name}, {per_second:.0f}/s", requests, seconds)

    async def is_fine(per_second: float) -> bool:
        return is_sustained(await offered("search", per_second, STEP_S), STEP_S)

    await offered("warm-up", START_RATE, STEP_S)
    rate = args.rate or await sustainable(is_fine, START_RATE)
    if not rate:
        broken.append(f"not even {START_RATE:g} forecasts a second are sustained")
        return
    for times in (1.0, *map(float, args.times or [3.0])):
        rows += await offered(f"{times:g}x", rate * times)
        broken += failures(rows[-2:])
    await asyncio.sleep(CALM_S)
    rows += await offered("1x, after", rate)
    broken += [] if is_sustained(rows[-2:], SECONDS) else ["not as before afterwards"]
    many = crowd(args.crowd_rate, SECONDS, args.crowd, args.crowd_items)
    name = f"{args.crowd} batches of {args.crowd_items} at once"
    rows += await _offered(offerer, name, many, SECONDS)
    broken += failures(rows[-2:])
    offerer.close()


async def _offered(
    offerer: Offerer, name: str, requests: Sequence[Departure], seconds: float
) -> list[Row]:
    seen, over_s = await offerer.offer(requests, seconds)
    found = rows_of(name, seen, over_s)
    harness.say("\n".join(harness.table_line(cells(row)) for row in found))
    return found


async def sustainable(is_sustained: Callable[[float], Awaitable[bool]], start: float) -> float:
    """The highest rate that was sustained, a second; 0 when even ``start`` was too much.

    The rate rises until it is too much, then the gap is halved once.
    """
    good, bad = 0.0, start
    for _ in range(MOST_TRIES):
        if not await is_sustained(bad):
            break
        good, bad = bad, bad * GROWTH
    middle = (good + bad) / 2
    return middle if good and await is_sustained(middle) else good


if __name__ == "__main__":
    sys.exit(main())
