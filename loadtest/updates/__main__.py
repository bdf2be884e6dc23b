"""The command: a deployed service under steady traffic, and one update after the other.

    python -m loadtest.updates
    python -m loadtest.updates --only code --only back
    python -m loadtest.updates --before ../the-version-that-runs-now

Needs Linux with `unshare` and `ip`. The last line is ``UPDATES_PASS`` or ``UPDATES_FAIL: why``; the
exit code says the same. `--before` names another checkout of the project: the service starts with
its code, "the code" is this one, and the roll-back goes there again.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from loadtest.cluster.application import adapted
from loadtest.cluster.nodes import HEAD, Cluster, is_up, wait_for
from loadtest.cluster.sandbox import GATEWAY, enter
from loadtest.service import ROOT
from loadtest.stub.process import StubProcess, start_stub
from loadtest.updates.stage import LIMIT_S, WORKER, Stage, Version
from loadtest.updates.traffic import Markets, Traffic
from loadtest.updates.verdict import (
    CARRIED,
    RESET,
    Look,
    Row,
    failures,
    last_line,
    row_of,
    table,
)

LEAD_S, TAIL_S = 20.0, 10.0
ADVANCE_S = 10.0
FORCED = "chronos2"  # a model that nobody asks for here
SETTINGS = {
    "TSFM_CONFORMAL__ONLINE": "true",
    "TSFM_CONFORMAL__SAVE_INTERVAL_S": "5",
    "TSFM_REQUEST__DEADLINE_MS": "3000",  # two cores start replicas beside those that answer
}


@dataclass(frozen=True, slots=True)
class Update:
    """How it is made, and what becomes of breakers."""

    name: str
    make: Callable[[Stage, Path], None]
    expected: str


def _scale(stage: Stage, _: Path) -> None:
    stage.go_to(stage.now.scaled("Runner", 3), replaces=False)


def _set(stage: Stage, _: Path) -> None:
    stage.go_to(stage.now.copy(TSFM_REQUEST__DEADLINE_MS="3100"))


def _change_code(stage: Stage, changed: Path) -> None:
    number = int(stage.now.variables()["TSFM_REVISION"]) + 1
    stage.go_to(stage.now.copy(changed, TSFM_REVISION=str(number)))


def _go_back(stage: Stage, _: Path) -> None:
    stage.go_back()


UPDATES = (
    Update("one Runner more", _scale, CARRIED),
    Update("a setting", _set, RESET),
    Update("the code", _change_code, RESET),
    Update("back to the code before", _go_back, RESET),
)


def main(argv: list[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else argv
    args = _parser().parse_args(given)
    chosen = [u for u in UPDATES if not args.only or any(word in u.name for word in args.only)]
    if not chosen:
        print("UPDATES_FAIL: no update holds such a word:", ", ".join(u.name for u in UPDATES))
        return 2
    enter(given, "loadtest.updates")
    rows: list[Row] = []
    broken: list[str] = []
    with tempfile.TemporaryDirectory(prefix="ru", dir="/tmp", ignore_cleanup_errors=True) as folder:
        try:
            _run(Path(folder), chosen, args, rows)
        except (RuntimeError, OSError, subprocess.SubprocessError, httpx.HTTPError) as exc:
            broken.append(str(exc))
    broken += failures(rows)
    print(table(rows), last_line(broken), sep="\n", flush=True)
    return 1 if broken else 0


def _run(
    folder: Path, updates: Sequence[Update], args: argparse.Namespace, rows: list[Row]
) -> None:
    changed = ROOT if args.before else _changed(folder / "changed")
    stub = start_stub(
        "--host", GATEWAY, "--model", "mock", "--ms-per-call", "20", "--ms-per-series", "0.5"
    )
    first = Version(adapted(json.dumps([stub.url]), scales=False), args.before or ROOT)
    first.variables().update(SETTINGS)
    first.variables()["TSFM_CONFORMAL__LEARNED_FILE"] = str(folder / "learned.json")
    live = folder / "live"
    live.mkdir()
    cluster = Cluster(folder, redis=False, env={}, code=live)
    stage = Stage(cluster, live, first)
    try:
        _bring_up(stage)
        markets = Markets(args.markets)
        for update in updates:
            rows.append(asyncio.run(_watch(stage, update, changed, stub, markets, args.rate)))
            print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    except RuntimeError:
        print(cluster.account(), file=sys.stderr)
        raise


def _changed(folder: Path) -> Path:
    """The code with another version number, which the status page shows."""
    for name in ("serve_app", "runner", "configs"):
        shutil.copytree(ROOT / name, folder / name)
    with (folder / "serve_app/version.py").open("a") as file:
        file.write('\n\ndef package_version() -> str:\n    return "0+drill"\n')
    return folder


def _bring_up(stage: Stage) -> None:
    cluster = stage.cluster
    for number in (HEAD, WORKER):
        cluster.add_node(number, LIMIT_S)
    stage.deploy(stage.now)
    wait_for(lambda: is_up(f"{stage.url}/readyz"), LIMIT_S, "the application")


async def _watch(
    stage: Stage, update: Update, changed: Path, stub: StubProcess, markets: Markets, rate: float
) -> Row:
    """Traffic before, during and after an update; the breaker of one model is forced before."""
    async with httpx.AsyncClient(base_url=stage.url, timeout=5, trust_env=False) as http:
        route = f"/tsfm/admin/breakers/{FORCED}"
        (await http.post(route, json={"action": "force_open"})).raise_for_status()
        traffic = Traffic(stage.url, markets, rate, ADVANCE_S)
        looks: list[Look] = []
        looking = asyncio.create_task(_look(http, stub, traffic, looks))
        asking = asyncio.create_task(traffic.ask())
        try:
            await asyncio.sleep(LEAD_S)
            began_s = traffic.now_s()
            await asyncio.to_thread(update.make, stage, changed)
            took_s = traffic.now_s() - began_s
            await asyncio.sleep(TAIL_S)
        finally:
            traffic.stop()
            samples = await asking
            looking.cancel()
        after = await _state(http)
    return row_of(update.name, update.expected, samples, looks, began_s, took_s, after)


async def _look(
    http: httpx.AsyncClient, stub: StubProcess, traffic: Traffic, looks: list[Look]
) -> None:
    while True:
        stats = await asyncio.to_thread(stub.stats)
        try:
            coverage = (await http.get("/tsfm/status")).json()["coverage"]
            outcomes = sum(item["samples"] for item in coverage)
        except (httpx.HTTPError, ValueError, KeyError):
            outcomes = None
        looks.append(Look(traffic.now_s(), stats["forecasts"], outcomes))
        await asyncio.sleep(1.0)


async def _state(http: httpx.AsyncClient) -> tuple[str, str]:
    """The state of the breaker that was forced open before, and the version that answers."""
    status = (await http.get("/tsfm/status")).json()
    breakers = {one["model"]: one["state"] for one in status["breakers"]}
    return breakers.get(FORCED, "closed"), status["version"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.updates", description="What does an update cost callers?"
    )
    add = parser.add_argument
    add("--rate", type=float, default=20.0, help="requests a second")
    add("--markets", type=int, default=40, help="asked in turn, a new price every 10 s")
    add("--only", action="append", default=[], metavar="WORD", help="updates that hold the word")
    add("--before", type=Path, help="a checkout whose code runs first")
    return parser


if __name__ == "__main__":
    sys.exit(main())
