"""What a client saw of one request, and requests sent at their time whatever became of others."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from time import perf_counter
from typing import Any

from loadtest.answers import problem_of, read
from loadtest.http_client import Connection, Endpoint
from loadtest.payloads import Shape

OF_THE_PROXY = "of the proxy"  # how a problem ends when the answer was not the service's own
UNAVAILABLE = "unavailable"  # the code with which HAProxy and Serve answer themselves
TIMEOUT_S = 10.0  # of the client: far over the deadline, so that a broken promise is seen whole


@dataclass(frozen=True, slots=True)
class Sample:
    """One attempt: when it was sent and answered (s since the run began), and what came."""

    sent_s: float
    done_s: float
    problem: str | None = None
    lost: bool = False  # the connection broke, or there was none: no answer at all
    source: str = ""  # model, baseline or stale
    reason: str | None = None
    breaker: str = ""
    cached: bool = False
    inside_ms: float = 0.0  # as the service measured it: the rest is the way there and back

    @property
    def latency_ms(self) -> float:
        return (self.done_s - self.sent_s) * 1e3


class Client:
    """Sends on idle connections, and on new ones when all are busy; one client, one run."""

    def __init__(self, target: Endpoint, shape: Shape, timeout_s: float = TIMEOUT_S) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._shape = shape
        self._idle: list[Connection] = []
        self._began = perf_counter()

    def now_s(self) -> float:
        return perf_counter() - self._began

    async def send(self, body: bytes) -> Sample:
        """One attempt, whatever comes of it."""
        connection = self._idle.pop() if self._idle else Connection(self._target, self._timeout_s)
        sent = self.now_s()
        try:
            status, content = await connection.post(body)
        except OSError as exc:
            timed_out = isinstance(exc, TimeoutError)
            return Sample(sent, self.now_s(), type(exc).__name__, lost=not timed_out)
        done = self.now_s()
        self._idle.append(connection)
        return judge(sent, done, status, read(content), self._shape)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


def judge(sent_s: float, done_s: float, status: int, answer: Any, shape: Shape) -> Sample:
    """The sample of a request that was answered."""
    if status != 200:
        error = answer.get("error") if isinstance(answer, Mapping) else None
        ours = isinstance(error, Mapping) and error.get("code") != UNAVAILABLE
        return Sample(sent_s, done_s, f"status {status}" + ("" if ours else f" {OF_THE_PROXY}"))
    if problem := problem_of(answer, shape.horizon, shape.levels):
        return Sample(sent_s, done_s, problem)
    meta = answer["meta"]
    return Sample(
        sent_s,
        done_s,
        source=_source(meta),
        reason=meta.get("fallback_reason"),
        breaker=str(meta.get("circuit_breaker_state", "")),
        cached=bool(meta.get("cache_hit")),
        inside_ms=float(meta.get("latency_ms", 0.0)),
    )


def _source(meta: Mapping[str, Any]) -> str:
    if meta.get("cache_stale"):
        return "stale"
    return "model" if meta.get("runtime") == "tollama" else "baseline"


async def open_loop(client: Client, bodies: Sequence[bytes], per_second: float) -> list[Sample]:
    """Every body at its time; the samples in the order their answers came."""
    began = client.now_s()
    tasks = []
    for number, body in enumerate(bodies):
        await asyncio.sleep(max(0.0, began + number / per_second - client.now_s()))
        tasks.append(asyncio.create_task(client.send(body)))
    return sorted(await asyncio.gather(*tasks), key=lambda sample: sample.done_s)


def breaker_path(samples: Sequence[Sample], most: int = 6) -> str:
    """The breaker's states in the order they were seen, repeats left out."""
    seen = [state for state, _ in groupby(s.breaker for s in samples if s.breaker)]
    more = f" (+{len(seen) - most})" if len(seen) > most else ""
    return " > ".join(seen[:most]) + more
