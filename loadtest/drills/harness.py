"""What all drills share: a service on a stand-in runtime, requests, judged answers, a verdict.

A drill reads its command line with ``options``, has a service from ``standing``, sends with a
``Client`` and ends in ``judged``. Its last line is ``WORD_PASS`` or ``WORD_FAIL: why``, and the
exit code says the same.
"""

import argparse
import asyncio
import contextlib
import json
import math
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import httpx

from loadtest.http_client import Answer, Endpoint, Pool
from loadtest.payloads import Shape, problem_of, read
from loadtest.service import EMBEDDED_RUNTIME, SHIPPED, Service, start
from loadtest.stub.process import StubProcess, start_stub

FORECAST, FORECAST_BATCH = "/tsfm/forecast", "/tsfm/forecast/batch"
INTERRUPTED = "interrupted"
UNAVAILABLE = "unavailable"  # the code with which HAProxy and Serve answer themselves
OF_THE_PROXY = "of the proxy"  # how a problem ends when the answer was not the service's own
TOLERANCE_MS = 50.0  # over a deadline: for the way there and back
TIMEOUT_S = 10.0  # of the client: far over the deadline, so that a broken promise is seen whole
T = TypeVar("T")
_EXIT_INTERRUPTED = 130  # as shells say it
_REPORTED = (RuntimeError, OSError, ValueError, httpx.HTTPError, subprocess.SubprocessError)


# The command


def options(
    name: str, about: str | None, argv: Sequence[str] | None, known: Mapping[str, tuple[Any, str]]
) -> argparse.Namespace:
    """The command line of a drill.

    An option has a default, or its type where it has none, and a text. The default ``False`` makes
    a switch, a list an option that may be given several times.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m loadtest.drills.{name}",
        description=(about or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for option, (default, text) in known.items():
        if default is False:
            parser.add_argument(option, action="store_true", help=text)
        elif isinstance(default, list):
            parser.add_argument(option, action="append", default=default, metavar="X", help=text)
        elif isinstance(default, type):
            parser.add_argument(option, type=default, help=text)
        else:
            parser.add_argument(option, type=type(default), default=default, help=text)
    return parser.parse_args(argv)


def selected(word: str, parts: Sequence[Any], only: Sequence[str]) -> list[Any]:
    """The parts of a drill whose ``name`` contains a text of ``--only``; all if it is empty.

    Raises:
        SystemExit: 2, there is none; the last line names all parts.
    """
    texts = [text.lower() for text in only] or [""]
    found = [part for part in parts if any(text in part.name.lower() for text in texts)]
    if not found:
        names = ", ".join(part.name for part in parts)
        print(last_line(word, [f"no name contains {' or '.join(only)}; there are: {names}"]))
        raise SystemExit(2)
    return found


def judged(
    word: str, drill: Callable[[], object], report: Callable[[], tuple[str, list[str]]]
) -> int:
    """Runs a drill, prints its tables and the last line, and returns the exit code.

    ``report`` returns the tables and the broken promises. If the drill ended early, the last line
    has the reason instead of the promises.
    """
    early: list[str] = []
    with early_end(early):
        drill()
    tables, broken = report()
    print(tables, last_line(word, early or broken), sep="\n", flush=True)
    return exit_code(early or broken)


def last_line(word: str, broken: Sequence[str]) -> str:
    return f"{word}_FAIL: {'; '.join(broken)}" if broken else f"{word}_PASS"


def say(text: str) -> None:
    """To stderr, at once: stdout is for the tables and the last line."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def early_end(reasons: list[str]) -> Iterator[None]:
    """Adds the reason of an early end to ``reasons``; SIGTERM is one, and stops the service."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        reasons.append(INTERRUPTED)
    except _REPORTED as exc:
        reason, _, log = str(exc).partition("\n")
        say(log)
        reasons.append(reason)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def exit_code(broken: Sequence[str]) -> int:
    """0 where nothing was broken.

    >>> exit_code([]), exit_code(["3 lost"]), exit_code([INTERRUPTED])
    (0, 1, 130)
    """
    if INTERRUPTED in broken:
        return _EXIT_INTERRUPTED
    return 1 if broken else 0


def table(head: str, rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; ``head`` names the columns, with bars between them."""
    return "\n".join([f"| {head} |", "|---|" + "---:|" * head.count("|"), *map(table_line, rows)])


def table_line(row: Iterable[object]) -> str:
    return "| " + " | ".join(map(str, row)) + " |"


def publish(text: str, page: Path | None, name: str) -> None:
    """Prints a table, and puts it on a page between the marks of that name."""
    print(text)
    if page:
        page.write_text(placed(page.read_text("utf-8"), text, name), "utf-8")


def placed(page: str, text: str, name: str) -> str:
    """The page with ``text`` between its two marks.

    >>> placed("a\\n<!-- x -->old<!-- /x -->", "new", "x")
    'a\\n<!-- x -->\\nnew\\n<!-- /x -->'
    """
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = page.partition(first)
    return f"{before}{first}\n{text}\n{last}{rest.partition(last)[2]}"


# The service


@dataclass(frozen=True, slots=True)
class Stand:
    """A service that is ready, and the runtime behind it."""

    service: Service
    stub: StubProcess

    @property
    def url(self) -> str:
        return self.service.url


@contextlib.contextmanager
def standing(
    ms_per_call: float,
    ms_per_series: float,
    env: Mapping[str, str] | None = None,
    config: Path | Mapping[str, Any] = SHIPPED,
    **how: Any,
) -> Iterator[Stand]:
    """A service on a stand-in of that speed which has every model; ``how`` as ``service_on``."""
    speed = ("--ms-per-call", str(ms_per_call), "--ms-per-series", str(ms_per_series))
    with (
        start_stub("--model", "*", *speed) as stub,
        service_on([stub.url], env or {}, config, **how) as service,
    ):
        yield Stand(service, stub)


@contextlib.contextmanager
def service_on(
    runtime_urls: Sequence[str],
    env: Mapping[str, str],
    config: Path | Mapping[str, Any] = SHIPPED,
    log_lines: int = 0,
    **how: Any,
) -> Iterator[Service]:
    """The service once it is ready, without its embedded runtime; the end of its log at the end.

    ``how`` goes to ``loadtest.service.start``.
    """
    variables = {**env, "TSFM_TOLLAMA__BASE_URLS": json.dumps(runtime_urls)}
    say("starting the service ...")
    with start(config, env=variables, without=[EMBEDDED_RUNTIME], **how) as service:
        say(f"ready after {service.wait_ready(240.0):.1f} s on {service.url}")
        try:
            yield service
        finally:
            if log_lines:
                say(f"the end of the service's log:{service.log(log_lines)}")


def with_deployments(
    config: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """A copy of a Serve config with changed settings of deployments, by name.

    >>> app = {"deployments": [{"name": "A", "x": {"y": 1, "z": 2}}]}
    >>> with_deployments({"applications": [app]}, {"A": {"x": {"y": 3}}})
    {'applications': [{'deployments': [{'name': 'A', 'x': {'y': 3, 'z': 2}}]}]}
    """
    copy = deepcopy(dict(config))
    for deployment in (one for app in copy["applications"] for one in app["deployments"]):
        for key, value in changes.get(deployment["name"], {}).items():
            deployment[key] = deployment[key] | value if isinstance(value, Mapping) else value
    return copy


# Requests and their results


@dataclass(frozen=True, slots=True)
class Sample:
    """One attempt: when it was sent and answered (seconds since the run began), and the result."""

    sent_s: float
    done_s: float
    problem: str | None = None
    lost: bool = False  # the connection broke, or there was none: no answer at all
    source: str = ""  # model, baseline or stale
    reason: str | None = None
    breaker: str = ""
    cached: bool = False
    fallback: bool = False  # the service says that the model did not answer now
    inside_ms: float = 0.0  # as the service measured it: the rest is the way there and back

    @property
    def latency_ms(self) -> float:
        return (self.done_s - self.sent_s) * 1e3


class Client:
    """Sends requests for single forecasts and keeps a sample of each, in the order of answers."""

    def __init__(self, target: Endpoint, shape: Shape, timeout_s: float = TIMEOUT_S) -> None:
        self._pool = Pool(target, timeout_s)
        self._shape = shape
        self._began = perf_counter()
        self.samples: list[Sample] = []

    def now_s(self) -> float:
        return perf_counter() - self._began

    async def send(self, body: bytes) -> Sample:
        sent = self.now_s()
        try:
            answer = await self._pool.ask(body)
        except OSError as exc:
            timed_out = isinstance(exc, TimeoutError)
            sample = Sample(sent, self.now_s(), type(exc).__name__, lost=not timed_out)
        else:
            done = self.now_s()
            sample = judge(sent, done, answer.status, read(answer.body), self._shape)
        self.samples.append(sample)
        return sample

    def close(self) -> None:
        self._pool.close()


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
        fallback=bool(meta.get("fallback_used")),
        inside_ms=float(meta.get("latency_ms", 0.0)),
    )


def _source(meta: Mapping[str, Any]) -> str:
    if meta.get("cache_stale"):
        return "stale"
    return "model" if meta.get("runtime") == "tollama" else "baseline"


async def at_rate(
    per_second: float,
    start: Callable[[int], Coroutine[Any, Any, object]],
    goes_on: Callable[[int], bool],
) -> None:
    """Starts each request at its time, without waiting for the others; then waits for all."""
    began = perf_counter()
    async with asyncio.TaskGroup() as under_way:
        for number in count():
            await asyncio.sleep(max(0.0, began + number / per_second - perf_counter()))
            if not goes_on(number):
                break
            under_way.create_task(start(number))


async def open_loop(client: Client, bodies: Sequence[bytes], per_second: float) -> list[Sample]:
    """Sends every body at its time; returns the samples in the order of their answers."""
    first = len(client.samples)
    await at_rate(per_second, lambda n: client.send(bodies[n]), lambda n: n < len(bodies))
    return client.samples[first:]


async def closed_loop(
    ask: Callable[[bytes], Awaitable[T]], bodies: Sequence[bytes], at_once: int
) -> list[T]:
    """Sends every body once, ``at_once`` at any time; returns the results in no order."""
    waiting, found = iter(bodies), list[T]()

    async def work() -> None:
        for body in waiting:
            found.append(await ask(body))

    await asyncio.gather(*(work() for _ in range(min(at_once, len(bodies)))))
    return found


async def expect_200(pool: Pool, body: bytes) -> Answer:
    """The answer.

    Raises:
        RuntimeError: its status is another one.
    """
    answer = await pool.ask(body)
    if answer.status != 200:
        raise RuntimeError(f"status {answer.status}: {answer.body[:200]!r}")
    return answer


# Statistics of samples


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: a value that was really measured; NaN of nothing.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 50)
    2.0
    """
    if not ascending:
        return math.nan
    return ascending[max(0, math.ceil(len(ascending) * percent / 100) - 1)]


def percentiles_ms(samples: Iterable[Sample], *percents: float) -> list[float]:
    """Of the latencies."""
    ascending = sorted(sample.latency_ms for sample in samples)
    return [percentile(ascending, percent) for percent in percents]


def problems_of(samples: Iterable[Sample]) -> Counter[str]:
    return Counter(sample.problem for sample in samples if sample.problem)


def valid_share(samples: Sequence[Sample]) -> str:
    """A share that is not whole never reads as whole."""
    bad = problems_of(samples).total()
    share = 100 * (1 - bad / max(1, len(samples)))
    return f"{min(share, 99.9):.1f} %" if bad else "100 %"


def bad_answers(problems: Counter[str], requests: int) -> list[str]:
    """The broken promise of invalid answers, if there are any.

    >>> bad_answers(Counter({"status 500": 2}), 9), bad_answers(Counter(), 9)
    (['2 of 9 bad (2 status 500)'], [])
    """
    return [f"{problems.total()} of {requests} bad ({counted(problems)})"] if problems else []


def counted(counts: Counter[str]) -> str:
    """The most frequent first.

    >>> counted(Counter({"status 500": 1, "quantiles cross": 2}))
    '2 quantiles cross, 1 status 500'
    """
    return ", ".join(f"{number} {name}" for name, number in counts.most_common())


def breaker_path(samples: Sequence[Sample], most: int = 6) -> str:
    """The breaker's states in the order they were seen, repeats left out."""
    seen = [state for state, _ in groupby(s.breaker for s in samples if s.breaker)]
    more = f" (+{len(seen) - most})" if len(seen) > most else ""
    return " > ".join(seen[:most]) + more
