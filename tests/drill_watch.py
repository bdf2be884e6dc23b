"""`make drill-watch`: does a watch keep its promises? PASS or FAIL is the last line.

    speed    cycles of 500 markets end within 5 s, with the board
    memory   many cycles need no more of it than a few
    kills    `kill -9` at any point of a cycle loses no alert and doubles none

The service, the source of prices and the receiver of alerts are real processes or servers of this
machine; the prices are made by a formula, in a time that the drill moves on.
"""

import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil
from httpx import AsyncClient as Http

from loadtest.drills import harness
from serve_app.watch.alerts import Rule
from serve_app.watch.cycle import Plan
from serve_app.watch.journal import Journal
from serve_app.watch.metrics import WatchMetrics
from serve_app.watch.sources.files import JsonUrl
from serve_app.watch.sources.polite import PoliteHttp
from serve_app.watch.watcher import Watcher
from tsfm_client import AsyncClient

STEP_S, POINTS = 3600, 64  # steps of an hour: a run of the command seldom meets the next one
MARKETS, MOVED = 500, 25
LONGEST_S, MOST_GROWTH_MB = 5.0, 20.0
OPTIONS: dict[str, tuple[Any, str]] = {
    "--cycles": (60, "of 500 markets"),
    "--kills": (20, "of a watch, at random times"),
}


class Town:
    """The source of prices and the receiver of alerts, on one port."""

    def __init__(self) -> None:
        self.now = time.time()  # noqa: TID251 - a command has real time
        self.got: list[str] = []  # ids of alerts

    def prices(self) -> dict[str, Any]:
        """Every market moves a little; some have jumped in the newest step."""
        end = int(self.now // STEP_S)
        return {
            f"market-{number:03}": [
                {"ts": step * STEP_S, "price": _price(number, step, step == end)}
                for step in range(end - POINTS + 1, end + 1)
            ]
            for number in range(MARKETS)
        }


def _price(number: int, step: int, is_newest: bool) -> float:
    chance = random.Random(number * 1_000_003 + step)
    has_jumped = is_newest and (number + step) % (MARKETS // MOVED) == 0
    return round((0.9 if has_jumped else 0.45) + chance.choice((-0.01, 0.0, 0.0, 0.01)), 2)


@contextmanager
def served(town: Town) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, json.dumps(town.prices()).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            town.got.append(json.loads(body)["id"])
            self._answer(200, b"{}")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with suppress(BrokenPipeError):  # the watch was killed
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


async def cycles(town: Town, at: str, service: str, count: int) -> tuple[list[float], list[float]]:
    """The seconds of each cycle, and the memory of this process after it in MB."""
    plan = Plan("1h", STEP_S, POINTS, Rule(), top=MARKETS)
    seconds, memory = [], []
    async with Http() as http, AsyncClient(service) as client:
        source = JsonUrl(PoliteHttp(http), f"{at}/prices", {})
        with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "w.db") as journal:
            watcher = Watcher(
                source, client, journal, plan, (), WatchMetrics(), lambda: town.now, board="drill"
            )
            for _ in range(count):
                begin = perf_counter()
                report = await watcher.cycle()
                await watcher.show_on_board(report)
                if report.outcome is None or len(report.outcome.checks) != MARKETS:
                    raise RuntimeError(f"a cycle failed: {report}"[:500])
                seconds.append(perf_counter() - begin)
                memory.append(psutil.Process().memory_info().rss / 2**20)
                town.now += STEP_S
    return seconds, memory


def command(at: str, service: str, folder: Path) -> subprocess.Popen[bytes]:
    words = ["watch", "--once", "--json", "--source", f"{at}/prices", "--freq", "1h"]
    words += ["--points", str(POINTS), "--top", str(MARKETS), "--url", service]
    words += ["--p-value", "1"]  # every breach: what is usual is learned meanwhile
    words += ["--webhook", f"{at}/alerts", "--state", str(folder / "w.db")]
    return subprocess.Popen(
        [sys.executable, "-m", "serve_app.cli", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kills(town: Town, at: str, service: str, count: int) -> list[str]:
    """What was lost or doubled by kills; empty if nothing was."""
    chance, problems = random.Random(), []
    town.now = time.time()  # noqa: TID251 - a command has real time
    began = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command(at, service, Path(folder)).wait()
    expected, lasts_s = sorted(town.got), perf_counter() - began
    if len(expected) < MOVED:
        return [f"an undisturbed watch gave {len(expected)} alerts, not {MOVED}"]
    for number in range(count):
        town.got.clear()
        with tempfile.TemporaryDirectory() as folder:
            victim = command(at, service, Path(folder))
            if number % 2:  # while alerts are delivered
                wanted, pause = chance.randrange(1, len(expected)), threading.Event().wait
                while len(town.got) < wanted and victim.poll() is None:
                    pause(0.001)
            else:
                threading.Event().wait(chance.uniform(0, lasts_s))
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            before = len(town.got)
            command(at, service, Path(folder)).wait()
        harness.say(f"killed after {before} alerts were sent; then {len(town.got) - before}")
        if sorted(set(town.got)) != expected:
            problems.append(f"{len(set(town.got))} alerts, not {len(expected)}, after a kill")
    return problems


def main(argv: list[str] | None = None) -> int:
    args = harness.options("drill_watch", __doc__, argv, OPTIONS)
    rows, problems = list[dict[str, object]](), list[str]()

    def drill() -> None:
        town = Town()
        with served(town) as at, harness.standing(37.0, 0.9) as (service, _):
            seconds, memory = asyncio.run(cycles(town, at, service.url, args.cycles))
            grown = max(memory) - memory[min(10, len(memory) - 1)]
            rows.append({"what": "longest cycle of 500 markets, s", "got": f"{max(seconds):.1f}"})
            rows.append({"what": "growth of memory after ten cycles, MB", "got": f"{grown:.0f}"})
            if max(seconds) > LONGEST_S:
                problems.append(f"a cycle took {max(seconds):.1f} s")
            if grown > MOST_GROWTH_MB:
                problems.append(f"memory grew by {grown:.0f} MB")
            problems.extend(kills(town, at, service.url, args.kills))
            rows.append({"what": "kills without a lost or doubled alert", "got": args.kills})

    return harness.judged("WATCH", drill, lambda: (harness.table(rows), problems))


if __name__ == "__main__":
    sys.exit(main())
