"""The command: starts the stand-in and the service, or takes a running one, and measures.

    python -m loadtest.bench --requests 200 --unique 20 --budget-p95-ms 300 --budget-cycle-s 60

The last line is ``SLO_PASS`` or ``SLO_FAIL: why``; the exit code says the same. With
``--json`` there are numbers alone, and an empty ``broken`` is a pass.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Iterator
from itertools import cycle, islice

from loadtest.bench.measure import run
from loadtest.bench.verdict import Budgets, Summary, failures, last_line, numbers, summarise, table
from loadtest.http_client import endpoint
from loadtest.payloads import Shape, forecast_bodies
from loadtest.service import EMBEDDED_RUNTIME, start
from loadtest.stub.process import start_stub

WARM_UP_SEED = 1_000_003  # other markets than those measured: the cache must not know them


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)  # so that the service is stopped on the way out
    try:
        with _service(args) as url:
            summary = asyncio.run(measure(url, args))
    except KeyboardInterrupt:
        print(last_line(["interrupted"]))
        return 130
    except NobodyThereError as exc:
        print(last_line([str(exc)]))
        return 2
    except (RuntimeError, OSError) as exc:
        reason, _, log = str(exc).partition("\n")
        _say(log)
        print(last_line([reason]))
        return 1
    budgets = Budgets(args.budget_p95_ms, args.budget_cycle_s, args.budget_fallback_fraction)
    broken = failures(summary, budgets)
    if args.json:
        print(json.dumps(numbers(summary, broken), indent=2))
    else:
        print(table(summary))
        print(last_line(broken))
    return 1 if broken else 0


async def measure(url: str, args: argparse.Namespace) -> Summary:
    """Warms the service up, then measures it."""
    shape = Shape(points=args.points, horizon=args.horizon, model=args.model)
    warm_up = forecast_bodies(args.warm_up, shape, WARM_UP_SEED)
    await run(url, warm_up, args.concurrency, shape, lambda *_: None)
    bodies = list(islice(cycle(forecast_bodies(args.unique, shape, args.seed)), args.requests))
    outcomes, elapsed_s = await run(url, bodies, args.concurrency, shape, _progress)
    return summarise(outcomes, elapsed_s)


class NobodyThereError(Exception):
    """Nothing to measure."""


def look_for(url: str) -> None:
    """Makes sure that something listens.

    Raises:
        NobodyThereError: nothing does.
    """
    place = endpoint(url, "/")
    try:
        socket.create_connection((place.host, place.port), timeout=5).close()
    except OSError as exc:
        raise NobodyThereError(
            f"The service at {url} cannot be reached: "
            "nothing listens there, or the name is unknown."
        ) from exc


@contextlib.contextmanager
def _service(args: argparse.Namespace) -> Iterator[str]:
    """The address to measure; what had to be started for it is stopped at the end."""
    if args.url:
        look_for(args.url)
        yield args.url
        return
    speed = ["--ms-per-call", str(args.adapter_latency_ms), "--ms-per-series", "0"]
    with start_stub(*speed, "--model", "*") as stub:
        _say("starting the service ...")
        with _started(stub.url) as url:
            yield url


@contextlib.contextmanager
def _started(runtime_url: str) -> Iterator[str]:
    service = start(env={"TSFM_TOLLAMA__BASE_URL": runtime_url}, without=[EMBEDDED_RUNTIME])
    try:
        _say(f"ready after {service.wait_ready():.1f} s on {service.url}")
        yield service.url
    finally:
        if killed := service.stop():
            _say(f"had to kill {len(killed)} processes of the service")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _progress(done: int, total: int, elapsed_s: float) -> None:
    _say(f"{done}/{total} requests, {done / elapsed_s:.0f} /s")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.bench", description="Does the service keep its promises?"
    )
    add = parser.add_argument
    add("--requests", type=_count, default=200, help="how many are sent")
    add("--unique", type=_count, default=20, help="how many markets they are about")
    add("--concurrency", type=_count, default=32, help="connections, one request on each")
    add("--adapter-latency-ms", type=_amount, default=15.0, help="the stand-in's time for a call")
    add("--budget-p95-ms", type=_amount, default=300.0)
    add("--budget-cycle-s", type=_amount, default=60.0, help="for the whole run")
    add("--budget-fallback-fraction", type=_amount, default=0.05, help="0 to 1")
    add("--url", type=_url, help="measure this running service instead of starting one")
    add("--points", type=_count, default=288)
    add("--horizon", type=_count, default=12)
    add("--model", default="chronos2", help="the name in the requests")
    add("--warm-up", type=int, default=20, help="requests before the measured ones")
    add("--seed", type=int, default=0)
    add("--json", action="store_true", help="print JSON for programs")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number over 0")
    return int(text)


def _amount(text: str) -> float:
    try:
        number = float(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from exc
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return number


def _url(text: str) -> str:
    try:
        endpoint(text, "/")
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    return text


if __name__ == "__main__":
    sys.exit(main())
