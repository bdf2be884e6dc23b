"""Callers who ask at their time, and of whom some hang up before they are answered."""

import asyncio
from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any

from loadtest.answers import batch_problem_of, problem_of, read, read_lines
from loadtest.http_client import Answer, Connection, endpoint
from loadtest.payloads import Shape
from loadtest.soak.traffic import Ask

TIMEOUT_S = 40.0  # over a batch's own deadline
FIRST_GUESS_S = 0.1
REMEMBERED = 50  # answers of a kind, for how long they usually take


@dataclass(slots=True)
class Tally:
    """What became of the requests of one kind."""

    valid: int = 0
    left: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    latencies_ms: "array[float]" = field(default_factory=lambda: array("f"))
    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    @property
    def invalid(self) -> int:
        return self.problems.total()

    @property
    def requests(self) -> int:
        return self.valid + self.left + self.invalid

    def usual_s(self) -> float:
        return median(self.recent_s) if self.recent_s else FIRST_GUESS_S


class Callers:
    """Sends on idle connections of the same kind, and on new ones when all are busy."""

    def __init__(self, url: str, shape: Shape) -> None:
        self._url = url
        self._shape = shape
        self._idle: dict[tuple[str, str], list[Connection]] = defaultdict(list)
        self.tallies: dict[str, Tally] = defaultdict(Tally)

    async def run(self, asks: Iterator[Ask], per_second: float, duration_s: float) -> None:
        """Asks at a steady rate, whatever is under way; ends when all is answered or left."""
        began = perf_counter()
        under_way: set[asyncio.Task[None]] = set()
        for number in range(int(per_second * duration_s)):
            await asyncio.sleep(max(0.0, began + number / per_second - perf_counter()))
            task = asyncio.create_task(self.ask(next(asks)))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)

    async def ask(self, ask: Ask) -> None:
        """One request, whatever comes of it."""
        tally, idle = self.tallies[ask.kind], self._idle[ask.path, ask.accept]
        target = endpoint(self._url, ask.path, ask.accept)
        connection = idle.pop() if idle else Connection(target, TIMEOUT_S)
        patience_s = None if ask.leaves_after is None else ask.leaves_after * tally.usual_s()
        began = perf_counter()
        try:
            async with asyncio.timeout(patience_s) as patience:
                answer = await connection.ask(ask.body)
        except OSError as exc:
            if patience.expired():
                tally.left += 1
            else:
                tally.problems[type(exc).__name__] += 1
            return
        self._note(tally, ask, answer, perf_counter() - began)
        idle.append(connection)

    def _note(self, tally: Tally, ask: Ask, answer: Answer, took_s: float) -> None:
        tally.recent_s.append(took_s)
        tally.latencies_ms.append(took_s * 1e3)
        if problem := problem_with(ask, answer, self._shape):
            tally.problems[problem] += 1
        else:
            tally.valid += 1

    def close(self) -> None:
        for connections in self._idle.values():
            while connections:
                connections.pop().close()


def problem_with(ask: Ask, answer: Answer, shape: Shape) -> str | None:
    """What is wrong with an answer; a bad request must be refused in our own form."""
    content: Any = read_lines(answer.body) if ask.kind == "ndjson" else read(answer.body)
    if ask.kind == "bad":
        refused = 400 <= answer.status < 500 and _is_error(content)
        return None if refused else f"status {answer.status} for a bad request"
    if answer.status != 200:
        return f"status {answer.status}"
    if ask.kind in ("batch", "ndjson"):
        return batch_problem_of(content, ask.items, shape.horizon, shape.levels)
    return problem_of(content, shape.horizon, shape.levels)


def _is_error(content: Any) -> bool:
    error = content.get("error") if isinstance(content, Mapping) else None
    return isinstance(error, Mapping) and isinstance(error.get("code"), str)
