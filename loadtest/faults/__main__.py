"""The command: the stand-in, a TCP proxy before it, the service, and every fault in turn.

    python -m loadtest.faults
    python -m loadtest.faults --only hang --only "tcp: refused"

The last line is ``FAULTS_PASS`` or ``FAULTS_FAIL: why``; the exit code says the same.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence

from loadtest.fault_proxy_process import start_proxy
from loadtest.faults.cases import Case, chosen
from loadtest.faults.run import Bench, run_case
from loadtest.faults.verdict import Row, failures, last_line, table
from loadtest.service import EMBEDDED_RUNTIME, start
from loadtest.stub_process import start_stub

STUB = ("--model", "mock", "--ms-per-call", "150")  # slow enough for calls of several series
SETTINGS = {  # short, so that a run of all faults takes minutes
    "TSFM_CIRCUIT_BREAKER__COOLDOWN_S": "1",
    "TSFM_CIRCUIT_BREAKER__COOLDOWN_GROWTH": "1",
    "TSFM_CACHE__TTL_S": "2",
}


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)  # so that the service is stopped on the way out
    rows: list[Row] = []
    try:
        with _bench(args) as bench:
            asyncio.run(_run(bench, chosen(args.only), rows))
    except KeyboardInterrupt:
        print(table(rows), last_line(["interrupted"]), sep="\n")
        return 130
    except (RuntimeError, OSError, ValueError) as exc:
        reason, _, log = str(exc).partition("\n")
        _say(log)
        print(table(rows), last_line([reason]), sep="\n")
        return 1
    broken = failures(rows, args.deadline_ms)
    print(table(rows), last_line(broken), sep="\n")
    return 1 if broken else 0


async def _run(bench: Bench, cases: Sequence[Case], rows: list[Row]) -> None:
    if await bench.is_back() is None:
        raise RuntimeError("the model does not answer without any fault")
    for number, case in enumerate(cases, 1):
        rows.append(await run_case(bench, case, seed=number))
        row = rows[-1]
        _say(f"{number}/{len(cases)} {row.name}: {row.valid}/{row.requests}, {row.max_ms:.0f} ms")


@contextlib.contextmanager
def _bench(args: argparse.Namespace) -> Iterator[Bench]:
    with (
        start_stub(*STUB) as stub,
        start_proxy(stub.url) as proxy,
        start(
            env=SETTINGS | {"TSFM_TOLLAMA__BASE_URL": proxy.url}, without=[EMBEDDED_RUNTIME]
        ) as service,
    ):
        _say(f"ready after {service.wait_ready():.1f} s on {service.url}")
        yield Bench(service.url, stub, proxy, args.requests, args.rate)
        _say(f"the end of the service's log:{service.log(args.log_lines)}")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.faults",
        description="Is there a valid answer in time, whatever the runtime does?",
    )
    add = parser.add_argument
    add("--requests", type=int, default=60, help="for each fault")
    add("--rate", type=float, default=20.0, help="requests a second, whatever is under way")
    add("--only", action="append", default=[], metavar="FAULT", help="as the table names it")
    add("--deadline-ms", type=float, default=1500.0, help="the service's own")
    add("--log-lines", type=int, default=5)
    return parser


if __name__ == "__main__":
    sys.exit(main())
