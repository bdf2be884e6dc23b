"""The command: the stand-in, a TCP proxy before it, the service, and every fault in turn.

    python -m loadtest.faults
    python -m loadtest.faults --only hang --only "tcp: refused"

The last line is ``FAULTS_PASS`` or ``FAULTS_FAIL: why``; the exit code says the same.
"""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterator, Sequence

from loadtest.drills.harness import ends_told, exit_code, say, service_on
from loadtest.fault_proxy_process import start_proxy
from loadtest.faults.cases import CASES, Case, chosen
from loadtest.faults.run import Bench, run_case
from loadtest.faults.verdict import Row, failures, last_line, table
from loadtest.stub.process import start_stub

STUB = ("--model", "mock", "--ms-per-call", "150")  # slow enough for calls of several series
SETTINGS = {  # short, so that a run of all faults takes minutes
    "TSFM_CIRCUIT_BREAKER__COOLDOWN_S": "1",
    "TSFM_CIRCUIT_BREAKER__COOLDOWN_GROWTH": "1",
    "TSFM_CACHE__TTL_S": "2",
}


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    rows: list[Row] = []
    broken: list[str] = []
    with ends_told(broken), _bench(args) as bench:
        asyncio.run(_run(bench, chosen(args.only), rows))
    broken = broken or failures(rows, args.deadline_ms)
    print(table(rows), last_line(broken), sep="\n")
    return exit_code(broken)


async def _run(bench: Bench, cases: Sequence[Case], rows: list[Row]) -> None:
    if await bench.is_back() is None:
        raise RuntimeError("the model does not answer without any fault")
    for number, case in enumerate(cases, 1):
        rows.append(await run_case(bench, case, seed=number))
        row = rows[-1]
        say(f"{number}/{len(cases)} {row.name}: {row.valid}/{row.requests}, {row.max_ms:.0f} ms")


@contextlib.contextmanager
def _bench(args: argparse.Namespace) -> Iterator[Bench]:
    with (
        start_stub(*STUB) as stub,
        start_proxy(stub.url) as proxy,
        service_on(proxy.url, SETTINGS, log_lines=args.log_lines) as service,
    ):
        yield Bench(service.url, stub, proxy, args.requests, args.rate)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.faults",
        description="Is there a valid answer in time, whatever the runtime does?",
    )
    add = parser.add_argument
    add("--requests", type=int, default=60, help="for each fault")
    add("--rate", type=float, default=20.0, help="requests a second, whatever is under way")
    names = [case.name for case in CASES]
    add(
        "--only", action="append", default=[], choices=names, metavar="FAULT", help="from the table"
    )
    add("--deadline-ms", type=float, default=1500.0, help="the service's own")
    add("--log-lines", type=int, default=5)
    return parser


if __name__ == "__main__":
    sys.exit(main())
