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
import math
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from loadtest.drills import harness
from loadtest.drills.harness import Client, Sample
from loadtest.payloads import Shape, batch_body, encode, windows

SHAPE = Shape(model="mock", points=96)
INTERACTIVE, BATCH = "interactive", "batch"
OVERLOADED = "overloaded"
REFUSALS = ("status 429", "status 503")
TOLERANCE = 0.02  # of shares: a few requests at the edges of a run
MODEL_SHARE = 0.99  # of the answers where a load is sustained
DEADLINE_MS = 1500.0  # the service's own, of an interactive request
TIMEOUT_S = 60.0
GROWTH, MOST_STEPS = 1.5, 12  # of the search
TRIES = 2  # of each rate: a machine that paused for a moment is not the limit of the service
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


@dataclass(frozen=True, slots=True)
class Flow:
    """Requests of one kind, evenly spaced, with so many forecasts in each."""

    kind: str
    per_second: float
    requests: int
    items: int = 1
    after_s: float = 0.0

    def due_s(self, number: int) -> float:
        return self.after_s + number / self.per_second


def load(per_second: float, seconds: float, batch_share: float, items: int) -> list[Flow]:
    """Forecasts at a rate, a share of them in batches."""
    single, batches = per_second * (1 - batch_share), per_second * batch_share / items
    return [
        Flow(INTERACTIVE, single, int(single * seconds)),
        Flow(BATCH, batches, int(batches * seconds), items),
    ]


def crowd(per_second: float, seconds: float, batches: int, items: int) -> list[Flow]:
    """Single requests, and after a second all ``batches`` at once."""
    single = Flow(INTERACTIVE, per_second, int(per_second * seconds))
    return [single, Flow(BATCH, math.inf, batches, items, after_s=1.0)]


async def offer(client: Client, flows: Sequence[Flow], numbers: Iterator[int]) -> list[Sample]:
    """Sends a load without waiting for answers; ``numbers`` are of markets not asked about yet."""
    first = len(client.samples)
    bodies = [[_body(flow, numbers) for _ in range(flow.requests)] for flow in flows]
    began_s = client.now_s()

    async def send(flow: Flow, ready: Sequence[bytes]) -> None:
        items = None if flow.kind == INTERACTIVE else flow.items

        async def start(number: int) -> None:
            # a delay in the generator counts as latency too
            due_s = began_s + flow.due_s(number)
            await client.send_any(ready[number], flow.kind, items, due_s=due_s)

        await asyncio.sleep(flow.after_s)
        await harness.at_rate(flow.per_second, start, lambda number: number < flow.requests)

    await asyncio.gather(*map(send, flows, bodies))
    return client.samples[first:]


def _body(flow: Flow, numbers: Iterator[int]) -> bytes:
    fresh = (next(windows(number, SHAPE)) for number in islice(numbers, flow.items))
    bodies = [encode(window, SHAPE) for window in fresh]
    return bodies[0] if flow.kind == INTERACTIVE else batch_body(bodies)


# From results to rows of the table, and to pass or fail


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of forecasts under one load, which was over at ``over_s``."""

    load: str
    kind: str
    samples: Sequence[Sample]
    over_s: float = math.inf

    @property
    def refused(self) -> list[Sample]:
        return [one for one in self.samples if (one.problem or "").startswith(REFUSALS)]

    @property
    def admitted(self) -> list[Sample]:
        return [one for one in self.samples if not (one.problem or "").startswith(REFUSALS)]

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
        return 1 - self.served / len(self.samples) if self.samples else 0.0

    def ms(self, *percents: float) -> list[float]:
        """Percentiles of the latency of admitted forecasts."""
        return harness.percentiles_ms(self.admitted, *percents)


def rows_of(name: str, samples: Sequence[Sample], over_s: float = math.inf) -> list[Row]:
    kinds = (INTERACTIVE, BATCH)
    return [Row(name, kind, [s for s in samples if s.kind == kind], over_s) for kind in kinds]


def is_sustained(rows: Sequence[Row], seconds: float) -> bool:
    """Whether nearly all answers of a load were the model's, valid and in time.

    A batch that takes a third of the ``seconds`` of the load shows that work piles up.
    """
    interactive, batch = rows
    answered = all(
        len(row.by_model) >= MODEL_SHARE * len(row.samples) and not (row.problems or row.refused)
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
    found = [f"{row.kind}: {words}" for words in harness.bad_answers(row.admitted)]
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


def cells(row: Row) -> dict[str, object]:
    overloaded = row.reasons[OVERLOADED]
    other = Counter({r: n for r, n in row.reasons.items() if r != OVERLOADED}) + row.problems
    return {
        "load": row.load,
        "kind": row.kind,
        "offered": len(row.samples),
        "model": len(row.by_model),
        "of it in the load": row.served,
        "stale": harness.sources(row.admitted)["stale"],
        "baseline, overloaded": overloaded,
        "baseline, other": row.reasons.total() - overloaded,
        "refused": len(row.refused),
        "with Retry-After": sum(one.retry_after for one in row.refused),
        "valid of admitted": len(row.admitted) - row.problems.total(),
        **harness.times(row.admitted, 50, 95, 99, 100),
        "other reasons": harness.counted(other) or "-",
    }


def main(argv: list[str] | None = None) -> int:
    args = harness.options("drills.overload", __doc__, argv, OPTIONS)
    rows: list[Row] = []
    broken: list[str] = []

    def drill() -> None:
        speed = (args.ms_per_call, args.ms_per_series)
        with harness.standing(*speed, SETTINGS, log_lines=5) as (service, _):
            asyncio.run(_drill(service.url, args, rows, broken))

    return harness.judged("OVERLOAD", drill, lambda: (harness.table(map(cells, rows)), broken))


async def _drill(url: str, args: argparse.Namespace, rows: list[Row], broken: list[str]) -> None:
    client, numbers = Client(url, SHAPE, TIMEOUT_S), count()

    async def offered(name: str, flows: list[Flow], seconds: float = SECONDS) -> list[Row]:
        samples = await offer(client, flows, numbers)
        over_s = min(sample.sent_s for sample in samples) + seconds
        found = rows_of(name, samples, over_s)
        harness.say("\n".join(harness.table_line(cells(row)) for row in found))
        return found

    async def at(name: str, per_second: float, seconds: float = SECONDS) -> list[Row]:
        flows = load(per_second, seconds, BATCH_SHARE, BATCH_ITEMS)
        return await offered(f"{name}, {per_second:.0f}/s", flows, seconds)

    async def is_fine(per_second: float) -> bool:
        for _ in range(TRIES):
            if is_sustained(await at("search", per_second, STEP_S), STEP_S):
                return True
        return False

    await at("warm-up", START_RATE, STEP_S)
    rate = args.rate or await sustainable(is_fine, START_RATE)
    if not rate:
        broken.append(f"not even {START_RATE:g} forecasts a second are sustained")
        return
    for times in (1.0, *map(float, args.times or [3.0])):
        rows += await at(f"{times:g}x", rate * times)
        broken += failures(rows[-2:])
    await asyncio.sleep(CALM_S)
    rows += await at("1x, after", rate)
    broken += [] if is_sustained(rows[-2:], SECONDS) else ["not as before afterwards"]
    flows = crowd(args.crowd_rate, SECONDS, args.crowd, args.crowd_items)
    rows += await offered(f"{args.crowd} batches of {args.crowd_items} at once", flows)
    broken += failures(rows[-2:])
    client.close()


async def sustainable(is_sustained: Callable[[float], Awaitable[bool]], start: float) -> float:
    """The highest rate that was sustained, a second; 0 when even ``start`` was too much.

    The rate rises until it is too much, then the gap is halved once.
    """
    good, bad = 0.0, start
    for _ in range(MOST_STEPS):
        if not await is_sustained(bad):
            break
        good, bad = bad, bad * GROWTH
    middle = (good + bad) / 2
    return middle if good and await is_sustained(middle) else good


if __name__ == "__main__":
    sys.exit(main())
