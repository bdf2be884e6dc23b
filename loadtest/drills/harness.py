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
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx

from loadtest.http_client import Answer, Pool, endpoint
from loadtest.payloads import Shape, forecast_bodies, items_of, problem_of, read, read_lines
from loadtest.service import EMBEDDED_RUNTIME, SHIPPED, Service, start
from loadtest.stub.process import StubProcess

FORECAST, FORECAST_BATCH = "/tsfm/forecast", "/tsfm/forecast/batch"
JSON, NDJSON = "application/json", "application/x-ndjson"
INTERRUPTED = "interrupted"
UNAVAILABLE = "unavailable"  # the code with which HAProxy and Serve answer themselves
OF_THE_PROXY = "of the proxy"  # how a problem ends when the answer was not the service's own
TOLERANCE_MS = 50.0  # over a deadline: for the way there and back
TIMEOUT_S = 10.0  # of the client: far over the deadline, so that a broken promise is seen whole
POLL_SEED = 2_000_003  # no drill sends these markets
_EXIT_INTERRUPTED = 130  # as shells say it
_REPORTED = (RuntimeError, OSError, ValueError, httpx.HTTPError, subprocess.SubprocessError)


# The command


def options(
    name: str, about: str | None, argv: Sequence[str] | None, known: Mapping[str, tuple[Any, str]]
) -> argparse.Namespace:
    """The command line of ``python -m loadtest.NAME``; ``known`` are the options.

    An option has a default, or its type where it has none, and a text. The default ``False`` makes
    a switch, a list an option that may be given several times. Numbers are from 0 on.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m loadtest.{name}",
        description=(about or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for option, (default, text) in known.items():
        if default is False:
            parser.add_argument(option, action="store_true", help=text)
        elif isinstance(default, list):
            parser.add_argument(option, action="append", default=default, metavar="X", help=text)
        else:
            kind, value = (default, None) if callable(default) else (type(default), default)
            read = partial(_number, kind) if kind in (int, float) else kind
            parser.add_argument(option, type=read, default=value, help=text)
    return parser.parse_args(argv)


def _number(kind: Callable[[str], float], text: str) -> float:
    try:
        number = kind(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return number


def selected(word: str, parts: Sequence[Any], only: Sequence[str]) -> list[Any]:
    """The parts whose ``name`` contains a text of ``--only``, or all; exit code 2 without any."""
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
    return _EXIT_INTERRUPTED if INTERRUPTED in broken else int(bool(broken))


def table(rows: Iterable[Mapping[str, object]]) -> str:
    """A Markdown table; the keys of a row are the names of the columns."""
    lines = list(rows)
    if not lines:
        return ""
    names = {name: name for name in lines[0]}
    rule = "|---|" + "---:|" * (len(names) - 1)
    return "\n".join([table_line(names), rule, *map(table_line, lines)])


def table_line(row: Mapping[str, object]) -> str:
    return "| " + " | ".join(map(str, row.values())) + " |"


def publish(text: str, page: Path | None, name: str) -> None:
    """Puts a text on a page, between ``<!-- name -->`` and ``<!-- /name -->``."""
    if page:
        marks = re.compile(f"(<!-- {name} -->).*(<!-- /{name} -->)", re.DOTALL)
        old = page.read_text("utf-8")
        page.write_text(marks.sub(lambda mark: f"{mark[1]}\n{text}\n{mark[2]}", old), "utf-8")


# The service


@contextlib.contextmanager
def standing(
    ms_per_call: float,
    ms_per_series: float,
    env: Mapping[str, str] | None = None,
    config: Path | Mapping[str, Any] = SHIPPED,
    model: str = "*",
    **how: Any,
) -> Iterator[tuple[Service, StubProcess]]:
    """A service on a stand-in of that speed with one model or all; ``how`` as ``service_on``."""
    speed = ("--ms-per-call", str(ms_per_call), "--ms-per-series", str(ms_per_series))
    with (
        StubProcess("--model", model, *speed) as stub,
        service_on([stub.url], env or {}, config, **how) as service,
    ):
        yield service, stub


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
        say(f"ready after {service.wait_ready():.1f} s on {service.url}")
        try:
            yield service
        finally:
            if log_lines:
                say(f"the end of the service's log:{service.log(log_lines)}")


def with_deployments(
    config: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """A copy of a Serve config with changed settings of deployments, by name."""
    copy = deepcopy(dict(config))
    for deployment in (one for app in copy["applications"] for one in app["deployments"]):
        for key, value in changes.get(deployment["name"], {}).items():
            deployment[key] = deployment[key] | value if isinstance(value, Mapping) else value
    return copy


# Requests and their results


@dataclass(frozen=True, slots=True)
class Sample:
    """One forecast: when it was sent and answered (seconds since the run began), and the result.

    An item of a batch takes as long as its batch.
    """

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
    retry_after: bool = False  # of an answer with another status than 200
    kind: str = ""  # what the drill calls the request

    @property
    def latency_ms(self) -> float:
        return (self.done_s - self.sent_s) * 1e3


class Client:
    """Sends requests and keeps a sample of each forecast, in the order of answers."""

    def __init__(self, url: str, shape: Shape, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        self.shape = shape
        self._timeout_s = timeout_s
        self._pools: dict[tuple[str, str], Pool] = {}
        self._began = perf_counter()
        self.samples: list[Sample] = []

    def now_s(self) -> float:
        return perf_counter() - self._began

    async def send(self, body: bytes) -> Sample:
        """Sends a request for one forecast."""
        return (await self.send_any(body))[0]

    async def send_any(
        self,
        body: bytes,
        kind: str = "",
        items: int | None = None,
        accept: str = JSON,
        due_s: float | None = None,
    ) -> list[Sample]:
        """Sends a forecast, or a batch of so many ``items``; latency counts from ``due_s``."""
        pool = self._pool(FORECAST if items is None else FORECAST_BATCH, accept)
        sent_s = self.now_s() if due_s is None else due_s
        try:
            answer = await pool.ask(body)
        except OSError as exc:
            lost, problem = not isinstance(exc, TimeoutError), type(exc).__name__
            found = [Sample(sent_s, self.now_s(), problem, lost=lost, kind=kind)]
            found *= items or 1
        else:
            judged = partial(self._judged, answer, items, accept, kind, sent_s, self.now_s())
            # of 2,000 forecasts it takes 0.2 s, in which other requests would be late
            found = judged() if items is None else await asyncio.to_thread(judged)
        self.samples += found
        return found

    def _judged(
        self,
        answer: Answer,
        items: int | None,
        accept: str,
        kind: str,
        sent_s: float,
        done_s: float,
    ) -> list[Sample]:
        content = read_lines(answer.body) if accept == NDJSON else read(answer.body)
        is_each_judged = items is not None and answer.status == 200
        parts = items_of(content, items or 1) if is_each_judged else [content]
        judged = (judge(sent_s, done_s, answer.status, part, self.shape) for part in parts)
        found = [replace(one, kind=kind, retry_after=answer.retry_after) for one in judged]
        return found if is_each_judged else found * (items or 1)

    def _pool(self, path: str, accept: str) -> Pool:
        if (path, accept) not in self._pools:
            target = endpoint(self._url, path, accept)
            self._pools[path, accept] = Pool(target, self._timeout_s)
        return self._pools[path, accept]

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


def judge(sent_s: float, done_s: float, status: int, answer: Any, shape: Shape) -> Sample:
    """The sample of a forecast that was answered."""
    if status != 200:
        error = answer.get("error") if isinstance(answer, Mapping) else None
        code = error.get("code") if isinstance(error, Mapping) else None
        ours = isinstance(code, str) and code != UNAVAILABLE
        return Sample(sent_s, done_s, f"status {status}" + ("" if ours else f" {OF_THE_PROXY}"))
    if problem := problem_of(answer, shape.horizon, shape.levels):
        return Sample(sent_s, done_s, problem)
    meta = answer["meta"]
    source = "model" if meta.get("runtime") == "tollama" else "baseline"
    return Sample(
        sent_s,
        done_s,
        source="stale" if meta.get("cache_stale") else source,
        reason=meta.get("fallback_reason"),
        breaker=str(meta.get("circuit_breaker_state", "")),
        cached=bool(meta.get("cache_hit")),
        fallback=bool(meta.get("fallback_used")),
        inside_ms=float(meta.get("latency_ms", 0.0)),
    )


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


async def model_back(client: Client, seed: int, limit_s: float, in_a_row: int = 1) -> float | None:
    """Seconds until the model answered so many new markets in a row, with its breaker closed.

    None if it did not within the limit.
    """
    began_s, row = client.now_s(), 0
    for number in count():
        body = forecast_bodies(1, client.shape, POLL_SEED + 10_000 * seed + number)[0]
        sample = await client.send(body)
        row = row + 1 if sample.source == "model" and sample.breaker == "closed" else 0
        if row == in_a_row:
            return sample.done_s - began_s
        if client.now_s() - began_s > limit_s:
            break
        await asyncio.sleep(0.1)
    return None


async def closed_loop(
    ask: Callable[[bytes], Awaitable[object]], bodies: Iterable[bytes], at_once: int
) -> None:
    """Sends every body once, ``at_once`` at any time."""
    waiting = iter(bodies)

    async def work() -> None:
        for body in waiting:
            await ask(body)

    await asyncio.gather(*(work() for _ in range(at_once)))


# Statistics of samples


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: a value that was really measured; NaN of nothing."""
    if not ascending:
        return math.nan
    return ascending[max(0, math.ceil(len(ascending) * percent / 100) - 1)]


def percentiles_ms(samples: Iterable[Sample], *percents: float) -> list[float]:
    """Of the latencies."""
    ascending = sorted(sample.latency_ms for sample in samples)
    return [percentile(ascending, percent) for percent in percents]


def times(samples: Iterable[Sample], *percents: int) -> dict[str, object]:
    """Cells with percentiles of the latencies."""
    names = ["max ms" if percent == 100 else f"p{percent} ms" for percent in percents]
    values = [f"{ms:.0f}" for ms in percentiles_ms(samples, *percents)]
    return dict(zip(names, values, strict=True))


def sources(samples: Iterable[Sample]) -> dict[str, object]:
    """Cells with the number of answers from each source."""
    counts = Counter(sample.source for sample in samples)
    return {name: counts[name] for name in ("model", "baseline", "stale")}


def problems_of(samples: Iterable[Sample]) -> Counter[str]:
    return Counter(sample.problem for sample in samples if sample.problem)


def bad_answers(samples: Sequence[Sample]) -> list[str]:
    """The broken promise of invalid answers, if there are any."""
    problems = problems_of(samples)
    return [f"{problems.total()} of {len(samples)} bad ({counted(problems)})"] if problems else []


def counted(counts: Counter[str]) -> str:
    """The most frequent first."""
    return ", ".join(f"{number} {name}" for name, number in counts.most_common())
