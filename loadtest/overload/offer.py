"""Offers a load, whatever becomes of it: single requests and batches, each at its time."""

import asyncio
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from time import perf_counter

from loadtest.answers import read
from loadtest.drills.harness import Sample, judge
from loadtest.http_client import Connection, endpoint
from loadtest.overload.verdict import BATCH, INTERACTIVE, Seen
from loadtest.payloads import Shape, batch_body, encode, windows

PATHS = {INTERACTIVE: "/tsfm/forecast", BATCH: "/tsfm/forecast/batch"}
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """So many forecasts a second for so long, a share of them in batches."""

    per_second: float
    seconds: float
    batch_share: float
    batch_items: int


@dataclass(frozen=True, slots=True)
class Departure:
    """One request and when it leaves, in seconds."""

    at_s: float
    kind: str
    items: int


def departures(load: Load) -> list[Departure]:
    """When each request of a load leaves: both kinds evenly spaced, in order."""
    single = load.per_second * (1 - load.batch_share)
    batches = load.per_second * load.batch_share / load.batch_items
    return list(
        heapq.merge(
            _evenly(INTERACTIVE, single, load.seconds, 1),
            _evenly(BATCH, batches, load.seconds, load.batch_items),
            key=lambda departure: departure.at_s,
        )
    )


def crowd(per_second: float, seconds: float, batches: int, items: int) -> list[Departure]:
    """Single requests evenly spaced, and after a second all ``batches`` at once."""
    single = _evenly(INTERACTIVE, per_second, seconds, 1)
    at_once = [Departure(1.0, BATCH, items)] * batches
    return list(heapq.merge(single, at_once, key=lambda departure: departure.at_s))


def _evenly(kind: str, per_second: float, seconds: float, items: int) -> Iterator[Departure]:
    for number in range(int(per_second * seconds)):
        yield Departure(number / per_second, kind, items)


class Offerer:
    """Sends on idle connections, and on new ones when all are busy; no two series are the same."""

    def __init__(self, url: str, shape: Shape) -> None:
        self._targets = {kind: endpoint(url, path) for kind, path in PATHS.items()}
        self._shape = shape
        self._idle: dict[str, list[Connection]] = {kind: [] for kind in PATHS}
        self._numbers = count()

    async def offer(self, load: Load) -> tuple[list[Seen], float]:
        """What became of each forecast of a load, and when it was over; waits for all answers."""
        return await self.send(departures(load), load.seconds)

    async def send(self, requests: Sequence[Departure], seconds: float) -> tuple[list[Seen], float]:
        """The same of requests that leave within ``seconds``."""
        leaving = [(one, self._body(one)) for one in requests]
        began = perf_counter()
        tasks = []
        for departure, body in leaving:
            await asyncio.sleep(max(0.0, began + departure.at_s - perf_counter()))
            # late of the generator itself counts: a caller does not care who kept it waiting
            due = began + departure.at_s
            tasks.append(asyncio.create_task(self._one(departure, body, due)))
        return [seen for task in tasks for seen in await task], began + seconds

    def _body(self, departure: Departure) -> bytes:
        numbers = (next(self._numbers) for _ in range(departure.items))
        bodies = [encode(next(windows(number, self._shape)), self._shape) for number in numbers]
        return bodies[0] if departure.kind == INTERACTIVE else batch_body(bodies)

    async def _one(self, departure: Departure, body: bytes, due: float) -> list[Seen]:
        kind, idle = departure.kind, self._idle[departure.kind]
        connection = idle.pop() if idle else Connection(self._targets[kind], TIMEOUT_S)
        try:
            answer = await connection.ask(body)
        except OSError as exc:
            lost = Sample(due, perf_counter(), type(exc).__name__, lost=True)
            return [Seen(kind, lost)] * departure.items
        done = perf_counter()
        idle.append(connection)
        parts = _parts(read(answer.body), departure) if answer.status == 200 else []
        if not parts:
            sample = judge(due, done, answer.status, read(answer.body), self._shape)
            has_word = answer.header("retry-after") is not None
            return [Seen(kind, sample, has_word)] * departure.items
        return [Seen(kind, judge(due, done, 200, part, self._shape)) for part in parts]

    def close(self) -> None:
        for connections in self._idle.values():
            while connections:
                connections.pop().close()


def _parts(answer: object, departure: Departure) -> Sequence[object]:
    """The forecasts in an answer, or nothing where it is not what was asked for."""
    if departure.kind == INTERACTIVE:
        return [answer]
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list) or len(results) != departure.items:
        return []
    return [result.get("ok") for result in results]
