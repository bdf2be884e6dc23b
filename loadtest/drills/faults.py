"""Is there a valid answer in time, whatever the runtime does?

    python -m loadtest.drills.faults
    python -m loadtest.drills.faults --only hang --only "tcp: refused"

The stand-in, the service, and every fault in turn. The last line is
``FAULTS_PASS`` or ``FAULTS_FAIL: why``.
"""

import argparse
import asyncio
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from loadtest.drills import harness
from loadtest.drills.harness import Client, Sample
from loadtest.payloads import Shape, forecast_bodies
from loadtest.stub.process import StubProcess

SHAPE = Shape(model="mock")
MS_PER_CALL, MS_PER_SERIES = 150.0, 0.9  # slow enough for calls of several series
SETTINGS = {  # short, so that a run of all faults takes minutes
    "TSFM_CIRCUIT_BREAKER__COOLDOWN_S": "1",
    "TSFM_CIRCUIT_BREAKER__COOLDOWN_GROWTH": "1",
    "TSFM_CACHE__TTL_S": "2",
}
KNOWN_SEED = 1_000_001
BACK_LIMIT_S = 45.0  # a call that hangs for ever holds its slot until its lease ends
POISON = 0.99999  # 11.5 in log-odds; prices in cents stay under 4.6
OPTIONS: dict[str, tuple[Any, str]] = {
    "--requests": (60, "for each fault"),
    "--rate": (20.0, "requests a second, sent without waiting for answers"),
    "--only": (list[str](), "run only the faults whose name contains this"),
    "--deadline-ms": (1500.0, "the service's own"),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One fault of the stand-in; ``down`` stops it.

    ``poison_every`` makes every n-th request one the runtime refuses; ``known`` asks for markets
    whose answers have expired, and ``at_once`` for all at the same moment.
    """

    name: str
    fault: str | None = None  # KIND or KIND=ARG
    down: bool = False
    poison_every: int | None = None
    known: bool = False
    at_once: bool = False


NONE = Case("no fault")
CASES: tuple[Case, ...] = (
    NONE,
    Case("latency 0.5 s", "latency=500"),
    Case("latency 2 s", "latency=2000"),
    Case("jitter to 1.5 s", "jitter=1500"),
    Case("hang", "hang=60"),
    Case("slow drip", "slow_drip=10"),
    Case("reset mid-body", "reset_mid_body"),
    Case("tcp: refused", down=True),
    Case("tcp: half-closed", "half_close"),
    Case("tcp: reset after 20 ms", "reset_first=20"),
    Case("tcp: cut at 200 bytes", "cut=200"),
    Case("tcp: drip of bytes", "byte_drip=5"),
    Case("tcp: 1 kB/s", "byte_drip=1"),
    Case("tcp: latency 0.3 to 0.6 s", "late_answer=300"),
    Case("wrong content type", "wrong_content_type"),
    Case("truncated JSON", "truncated_json"),
    Case("null values", "nan_values=null"),
    Case("NaN literal", "nan_values=literal"),
    Case("1e999", "nan_values=infinity"),
    Case("400 digits", "nan_values=digits"),
    Case("bad UTF-8", "bad_utf8"),
    Case("missing quantile", "missing_quantile"),
    Case("quantiles null", "quantiles_null"),
    Case("horizon too short", "wrong_horizon=-1"),
    Case("horizon too long", "wrong_horizon=1"),
    Case("crossed", "crossed"),
    Case("swapped ids", "swapped_ids"),
    Case("missing id", "missing_id"),
    Case("duplicate ids", "duplicate_ids"),
    Case("missing series", "missing_series"),
    Case("poisoned batch", "poisoned=9", poison_every=10),
    Case("poisoned, unnamed", "poisoned_blind=9", poison_every=10),
    Case("401", "401"),
    Case("403", "403"),
    Case("404", "404"),
    Case("413", "413"),
    Case("429", "429"),
    Case("429, Retry-After 1", "429=1"),
    Case("500", "500"),
    Case("502", "502"),
    Case("503", "503"),
    Case("503, known markets", "503", known=True),
    Case("its breaker open", "circuit_open"),
    Case("redirect", "redirect"),
    Case("gzip bomb 1.1 GB", "gzip_bomb=1100"),
    Case("100 MB answer", "huge_answer=100"),
    Case("33 MB answer, all at once", "huge_answer=33", at_once=True),
    Case("endless chunks", "endless_chunks"),
    Case("answered twice", "answered_twice"),
    Case("flapping", "flapping=5"),
    Case("tcp: black hole", "black_hole"),  # last: a slot lost to it is lost for the whole lease
)


def main(argv: list[str] | None = None) -> int:
    args = harness.options("drills.faults", __doc__, argv, OPTIONS)
    cases, rows = harness.selected("FAULTS", CASES, args.only), list[Row]()
    return harness.judged(
        "FAULTS",
        partial(_run, args, cases, rows),
        lambda: (harness.table(map(cells, rows)), failures(rows, args.deadline_ms)),
    )


def _run(args: argparse.Namespace, cases: Sequence[Case], rows: list["Row"]) -> None:
    how: dict[str, Any] = {"env": SETTINGS, "model": SHAPE.model, "log_lines": 5}
    with harness.standing(MS_PER_CALL, MS_PER_SERIES, **how) as (service, stub):
        for seed, case in enumerate([NONE, *cases]):  # the first one shows that all is well
            found = asyncio.run(_one(case, seed, service.url, stub, args))
            rows.extend([found] if seed else [])
            harness.say(f"{seed}/{len(cases)} {harness.table_line(cells(found))}")


async def _one(
    case: Case, seed: int, url: str, stub: StubProcess, args: argparse.Namespace
) -> "Row":
    """Asks under one fault, ends it, and waits until the model answers again."""
    client, bodies = Client(url, SHAPE), bodies_of(case, args.requests, seed)
    if case.known:
        await _make_known(client, bodies, args.rate)
    if case.fault:
        stub.control(fault=case.fault)
    if case.down:
        stub.stop()
    samples = await harness.open_loop(client, bodies, math.inf if case.at_once else args.rate)
    strikes = len(samples)
    if case.down:
        stub.start_again()
        strikes = sum(sample.source != "model" for sample in samples)
    if case.fault:
        strikes = sum(stub.stats()["faults"].values())
    stub.reset()
    back_s = await harness.model_back(client, seed, BACK_LIMIT_S)
    client.close()
    return Row(case.name, samples, strikes, back_s)


def bodies_of(case: Case, requests: int, seed: int) -> list[bytes]:
    """Markets that no other case asks about, some of them poisoned."""
    bodies = forecast_bodies(requests, SHAPE, KNOWN_SEED if case.known else seed)
    if case.poison_every:
        bodies[:: case.poison_every] = map(_poisoned, bodies[:: case.poison_every])
    return bodies


def _poisoned(body: bytes) -> bytes:
    """The same market at a price the runtime refuses, unlike any other poisoned one."""
    request = orjson.loads(body)
    return orjson.dumps(request | {"y": [*request["y"][:-32], *[POISON] * 32]})


async def _make_known(client: Client, bodies: list[bytes], per_second: float) -> None:
    """Lets the model answer, and waits until the first of these answers has expired."""
    await harness.open_loop(client, bodies, per_second)
    while (await client.send(bodies[-1])).cached:  # noqa: ASYNC110 - it expires elsewhere
        await asyncio.sleep(0.1)


# From samples to a row of the table, and to pass or fail


@dataclass(frozen=True, slots=True)
class Row:
    """The results under one fault.

    ``strikes`` is how often it took effect, ``back_s`` how long after its end the model answered
    again (None: not while we waited).
    """

    name: str
    samples: Sequence[Sample]
    strikes: int
    back_s: float | None


def failures(rows: Sequence[Row], deadline_ms: float) -> list[str]:
    """Every promise that was broken, in words; a fault that never took effect proved nothing."""
    return [words for row in rows for words in _failures(row, deadline_ms + harness.TOLERANCE_MS)]


def _failures(row: Row, limit_ms: float) -> list[str]:
    found = harness.bad_answers(row.samples)
    (most_ms,) = harness.percentiles_ms(row.samples, 100)
    if not most_ms <= limit_ms:
        found.append(f"max {most_ms:.0f} ms is over {limit_ms:.0f} ms")
    if not row.strikes:
        found.append("it never took effect")
    if row.back_s is None:
        found.append("the model did not come back")
    return [f"{row.name}: {words}" for words in found]


def cells(row: Row) -> dict[str, object]:
    """``max inside`` is the longest by the service's own clock."""
    reasons = Counter(sample.reason for sample in row.samples if sample.reason)
    inside_ms = max((sample.inside_ms for sample in row.samples), default=0.0)
    return {
        "fault": row.name,
        "requests": len(row.samples),
        "valid": len(row.samples) - harness.problems_of(row.samples).total(),
        **harness.sources(row.samples),
        **harness.times(row.samples, 50, 95, 99, 100),
        "max inside ms": f"{inside_ms:.0f}",
        "back after s": "-" if row.back_s is None else f"{row.back_s:.1f}",
        "reasons": harness.counted(reasons) or "-",
    }


if __name__ == "__main__":
    sys.exit(main())
