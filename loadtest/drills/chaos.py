"""Kills or stops each process in turn, and checks that requests still get valid answers in time.

    python -m loadtest.drills.chaos
    python -m loadtest.drills.chaos --rate 25 --only ingress --only proxy

There are two replicas of each deployment and steady traffic. A blow is one signal to one process.
The last line is ``CHAOS_PASS`` or ``CHAOS_FAIL: why``.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from loadtest.drills import harness
from loadtest.drills.harness import Client, Sample
from loadtest.drills.parts.processes import HELPERS, RUNTIME, TARGETS, Kind
from loadtest.payloads import Shape, forecast_bodies
from loadtest.service import Service, read_config
from loadtest.stub.process import StubProcess

SETTINGS = {
    "TSFM_CIRCUIT_BREAKER__COOLDOWN_S": "1",
    "TSFM_CIRCUIT_BREAKER__COOLDOWN_GROWTH": "1",
}
KILL, STOP = signal.SIGKILL, signal.SIGSTOP
REPLICATED: dict[str, dict[str, Any]] = {  # where one replica would be a single point of failure
    "Ingress": {"num_replicas": 2},
    "Runner": {"autoscaling_config": {"min_replicas": 2}},
}
SHAPE = Shape(model="mock", points=96)
LATE_S = 1.0
RETRY_TIMEOUT_S = 10.0
WINDOW_S = 12.0  # of requests around each blow
PAUSE_S = 4.0  # until a stopped process continues
RETRY_AFTER_S = 15.0  # until a client retries after a broken connection
REPLACE_LIMIT_S = 120.0
OPTIONS: dict[str, tuple[Any, str]] = {
    "--rate": (50.0, "requests a second, sent without waiting for answers"),
    "--only": (list[str](), "run only the blows whose name contains this"),
    "--deadline-ms": (1500.0, "deadline of the service"),
}


# The blows: signals to processes that this run has started


@dataclass(frozen=True, slots=True)
class Blow:
    target: Kind
    signal: signal.Signals

    @property
    def name(self) -> str:
        model = ", model down" if self.target.model_down else ""
        restart = ", all restarted" if self.target.restarts else ""
        return f"{self.signal.name} {self.target.name}{model}{restart}"


BLOWS = (  # kills of all processes, and stops of those that handle requests
    *(Blow(target, sig) for target in TARGETS for sig in (KILL, STOP)),
    *(Blow(target, KILL) for target in HELPERS),
)


@dataclass(slots=True)
class Field:
    service: Service
    stub: StubProcess
    stopped: set[int] = field(default_factory=set)

    def processes(self, target: Kind) -> list[int]:
        if target.name == RUNTIME:
            return [self.stub.process.pid] if self.stub.process.poll() is None else []
        return target.found_in(self.service.processes())

    async def strike(self, target: Kind, sig: signal.Signals) -> int:
        """Signals the newest of the target's processes and returns its id; an error without one.

        A stopped process continues, and a killed runtime is started again, after a pause.
        """
        victims = await asyncio.to_thread(self.processes, target)
        if not victims:
            raise RuntimeError(f"no process of the {target.name} was found")
        victim = victims[-1]  # an older HAProxy may only be finishing its connections
        os.kill(victim, sig)
        if sig != KILL:
            self.stopped.add(victim)
            await asyncio.sleep(PAUSE_S)
            self.resume()
        elif target.name == RUNTIME:
            await asyncio.sleep(PAUSE_S)
            await asyncio.to_thread(self.stub.stop)
            await asyncio.to_thread(self.stub.start_again)
        return victim

    def resume(self) -> None:
        """Sends SIGCONT to all stopped processes."""
        while self.stopped:
            with contextlib.suppress(ProcessLookupError):  # Serve may have replaced it meanwhile
                os.kill(self.stopped.pop(), signal.SIGCONT)


# One blow: requests before, during and after it


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request, and its one retry if the first try got no answer from the service."""

    first: Sample
    retry: Sample | None = None


def is_lost(sample: Sample) -> bool:
    """No answer from the service: the connection broke or hung, or the proxy answered instead."""
    return is_away(sample) or sample.problem == "TimeoutError"


def is_away(sample: Sample) -> bool:
    """The proxy is absent or has no routes yet: an immediate retry would fail too."""
    return sample.lost or (sample.problem or "").endswith(harness.OF_THE_PROXY)


async def run_blow(scene: Field, blow: Blow, args: argparse.Namespace, seed: int) -> "Row":
    """Sends requests at a steady rate, strikes, and waits until the service has recovered.

    Lost requests are retried once; in a restart of everything that is when it is over.
    """
    # Clients of a stopped process give up at the deadline and retry. For other processes the
    # client waits longer, to measure how late an answer is.
    patience_s = harness.TOLERANCE_MS / 1e3 if blow.target.carries else LATE_S
    first = Client(scene.service.url, SHAPE, args.deadline_ms / 1e3 + patience_s)
    second = Client(scene.service.url, SHAPE, RETRY_TIMEOUT_S)
    bodies = forecast_bodies(int(args.rate * WINDOW_S), SHAPE, seed)
    whole, attempts = asyncio.Event(), list[Attempt]()

    async def attempt(number: int) -> None:
        sample, retry = await first.send(bodies[number]), None
        if is_lost(sample):
            await whole.wait()
            await asyncio.sleep(RETRY_AFTER_S if is_away(sample) else 0)
            retry = await second.send(bodies[number])
        attempts.append(Attempt(sample, retry))

    before = len(await asyncio.to_thread(scene.processes, blow.target))
    if not blow.target.restarts:
        whole.set()
    try:
        if blow.target.model_down:
            scene.stub.control(fault="503")
        asking = asyncio.create_task(
            harness.at_rate(args.rate, attempt, lambda number: number < len(bodies))
        )
        await asyncio.sleep(min(2.0, WINDOW_S / 4))
        blow_s = first.now_s()
        victim = await scene.strike(blow.target, blow.signal)
        until_s, took_s = first.now_s() + REPLACE_LIMIT_S, None
        while took_s is None and first.now_s() < until_s:
            if await asyncio.to_thread(_is_replaced, scene, blow, victim, before):
                took_s = first.now_s() - blow_s
            else:
                await asyncio.sleep(0.2)
        whole.set()
        await asking
        scene.stub.reset()
        await harness.model_back(second, seed, REPLACE_LIMIT_S, in_a_row=5)
    finally:
        scene.resume()
        first.close()
        second.close()
    return Row(blow.name, attempts, blow_s, took_s, blow.target.carries)


def _is_replaced(scene: Field, blow: Blow, victim: int, before: int) -> bool:
    alive = scene.processes(blow.target)
    ended = victim not in alive or blow.signal == STOP
    as_many = len(alive) >= before or not blow.target.replaced
    return ended and as_many and (not blow.target.restarts or scene.service.is_ready())


# From attempts to a row of the table, and to pass or fail


@dataclass(frozen=True, slots=True)
class Row:
    """The effect of one blow on the callers; ``replaced_s`` is None if nothing replaced it.

    ``carries``: connections of callers ran through the process.
    """

    name: str
    attempts: Sequence[Attempt]
    blow_s: float
    replaced_s: float | None
    carries: bool

    @property
    def firsts(self) -> list[Sample]:
        return [attempt.first for attempt in self.attempts]

    @property
    def lost(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if is_lost(attempt.first)]

    @property
    def recovered(self) -> int:
        retries = [attempt.retry for attempt in self.lost]
        return sum(retry is not None and retry.problem is None for retry in retries)

    @property
    def hurt_s(self) -> float:
        """Seconds from the blow to the last request without a model answer at the first try."""
        hurt = [a.retry or a.first for a in self.attempts if a.first.source != "model"]
        return max((sample.done_s - self.blow_s for sample in hurt), default=0.0)

    @property
    def answered(self) -> list[Sample]:
        return [sample for sample in self.firsts if not is_lost(sample)]


def failures(rows: Sequence[Row], deadline_ms: float) -> list[str]:
    limit_ms = deadline_ms + harness.TOLERANCE_MS
    return [f"{row.name}: {words}" for row in rows for words in _failures(row, limit_ms)]


def _failures(row: Row, limit_ms: float) -> list[str]:
    found, problems, lost = [], harness.problems_of(row.firsts), len(row.lost)
    if bad := problems.total() - lost:
        found.append(f"{bad} bad answers ({harness.counted(problems)})")
    if lost and not row.carries:
        found.append(f"{lost} lost ({harness.counted(problems)})")
    if missing := lost - row.recovered:
        why = harness.counted(harness.problems_of(a.retry for a in row.lost if a.retry))
        found.append(f"{missing} of {lost} lost requests not recovered ({why})")
    (most_ms,) = harness.percentiles_ms(row.answered, 100)
    if most_ms > limit_ms and not row.carries:  # otherwise its clients gave up
        found.append(f"max {most_ms:.0f} ms is over {limit_ms:.0f} ms")
    if row.replaced_s is None:
        found.append("not replaced within the limit")
    return found


def cells(row: Row) -> dict[str, object]:
    """``max inside`` is the longest by the service's own clock."""
    firsts, reasons = row.firsts, Counter(s.reason for s in row.firsts if s.reason)
    inside_ms = max((sample.inside_ms for sample in firsts), default=0.0)
    return {
        "blow": row.name,
        "requests": len(firsts),
        "valid at once": len(firsts) - harness.problems_of(firsts).total(),
        "lost": len(row.lost),
        "recovered by one retry": row.recovered,
        "from the model": harness.sources(firsts)["model"],
        **harness.times(row.answered, 99, 100),
        "max inside ms": f"{inside_ms:.0f}",
        "hurt for s": f"{max(0.0, row.hurt_s):.1f}",
        "replaced after s": "-" if row.replaced_s is None else f"{row.replaced_s:.1f}",
        "reasons": harness.counted(reasons) or "-",
    }


def main(argv: list[str] | None = None) -> int:
    args = harness.options("drills.chaos", __doc__, argv, OPTIONS)
    blows, rows = harness.selected("CHAOS", BLOWS, args.only), list[Row]()
    return harness.judged(
        "CHAOS",
        partial(_run, args, blows, rows),
        lambda: (harness.table(map(cells, rows)), failures(rows, args.deadline_ms)),
    )


def _run(args: argparse.Namespace, blows: Sequence[Blow], rows: list[Row]) -> None:
    config = harness.with_deployments(read_config(), REPLICATED)
    with harness.standing(20.0, 0.5, SETTINGS, config, SHAPE.model, log_lines=5) as (service, stub):
        scene = Field(service, stub)
        for number, blow in enumerate(blows, 1):
            rows.append(asyncio.run(run_blow(scene, blow, args, seed=number)))
            harness.say(f"{number}/{len(blows)} {harness.table_line(cells(rows[-1]))}")


if __name__ == "__main__":
    sys.exit(main())
