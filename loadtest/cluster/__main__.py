"""The command: a head and two workers, the prod config's replicas spread over them, steady traffic.

    python -m loadtest.cluster
    python -m loadtest.cluster --rate 50 --only "kill a node"

Needs Linux with `unshare` and `ip`, and `redis-server` for the loss of the head. The last line is
``CLUSTER_PASS`` or ``CLUSTER_FAIL: why``; the exit code says the same.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import yaml

from loadtest.chaos.verdict import Row, failures, row_of, table
from loadtest.cluster.application import adapted
from loadtest.cluster.drills import DRILLS, LIMIT_S, Drill, have_spare, is_whole
from loadtest.cluster.losses import told
from loadtest.cluster.nodes import HEAD, REDIS_PASSWORD, REDIS_PORT, Cluster, is_up, wait_for
from loadtest.cluster.sandbox import GATEWAY, Place, enter
from loadtest.cluster.traffic import PORT, Traffic
from loadtest.drill import say
from loadtest.stub.process import start_stub

LEAD_S, TAIL_S = 3.0, 3.0
LOG_END = 6000  # letters
NO_LIMIT_MS = 1e9  # lateness is shown and not judged: all nodes share the cores of one machine


def main(argv: list[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else argv
    args = _parser().parse_args(given)
    drills = [drill for drill in DRILLS if _is_wanted(drill, args.only)]
    if not drills:
        print("CLUSTER_FAIL: no drill holds such a word:", ", ".join(d.name for d in DRILLS))
        return 2
    enter(given, "loadtest.cluster")
    redis = shutil.which("redis-server") is not None
    left_out = [drill.name for drill in drills if drill.needs_redis and not redis]
    rows: list[Row] = []
    broken = [f"not tried without redis-server: {name}" for name in left_out]
    with tempfile.TemporaryDirectory(prefix="rc", dir="/tmp", ignore_cleanup_errors=True) as folder:
        try:
            _run(Path(folder), redis, [d for d in drills if d.name not in left_out], args, rows)
        except (RuntimeError, OSError, subprocess.SubprocessError) as exc:
            broken.append(str(exc))
            _tell_logs(Path(folder))
    broken += failures(rows, NO_LIMIT_MS)
    print(table(rows))
    print(f"CLUSTER_FAIL: {'; '.join(broken)}" if broken else "CLUSTER_PASS", flush=True)
    return 1 if broken else 0


def _run(
    folder: Path, redis: bool, drills: Sequence[Drill], args: argparse.Namespace, rows: list[Row]
) -> None:
    if redis:
        _start_redis(folder)
    model = ("--model", "mock", "--ms-per-call", "20", "--ms-per-series", "0.5")
    stubs = [start_stub("--host", GATEWAY, *model) for _ in range(2)]
    urls = json.dumps([stub.url for stub in stubs])
    cluster = Cluster(folder, redis, {"TSFM_REQUEST__DEADLINE_MS": str(args.deadline_ms)})
    try:
        _bring_up(cluster, urls)
        for number, drill in enumerate(drills, 1):
            wait_for(partial(is_whole, cluster), LIMIT_S, "what the drill before left")
            if drill.needs_spare:
                have_spare(cluster)
            row, losses = asyncio.run(_drill(cluster, drill, args.rate, number))
            rows.append(row)
            say(table([row]).splitlines()[-1])
            say(f"  lost: {losses}\n  replicas: {dict(cluster.replicas())}")
    except RuntimeError:
        say(cluster.account())
        raise


def _bring_up(cluster: Cluster, urls: str) -> None:
    # Serve spreads replicas over the nodes it knows, and moves none to those that come later
    for number in (HEAD, 1, 2):
        cluster.add_node(number, LIMIT_S)
    config = cluster.folder / "serve.yaml"
    config.write_text(yaml.safe_dump(adapted(urls, scales=True)))
    cluster.deploy(config)
    took_s = wait_for(lambda: is_whole(cluster), 2 * LIMIT_S, "the application")
    workers = [f"http://{Place(number).ip}:{PORT}/readyz" for number in (1, 2)]
    wait_for(lambda: any(map(is_up, workers)), LIMIT_S, "an ingress")
    say(f"application running after {took_s:.0f} s: {dict(cluster.replicas())}")


async def _drill(cluster: Cluster, drill: Drill, rate: float, seed: int) -> tuple[Row, str]:
    traffic = Traffic(range(1, cluster.next_number + 1), rate, seed)
    await traffic.find(LIMIT_S)
    looking = asyncio.create_task(traffic.keep_looking())
    asking = asyncio.create_task(traffic.ask())
    await asyncio.sleep(LEAD_S)
    began_s = traffic.now_s()
    try:
        await asyncio.to_thread(drill.run, cluster)
        took_s = traffic.now_s() - began_s
        await asyncio.sleep(TAIL_S)
    finally:
        traffic.stop()
        attempts = await asking
        await looking
        traffic.close()
    row = row_of(drill.name, attempts, began_s, took_s, carries=drill.carries)
    return row, told(attempts, began_s)


def _start_redis(folder: Path) -> None:
    command = ["redis-server", "--bind", GATEWAY, "--port", str(REDIS_PORT), "--dir", str(folder)]
    with (folder / "redis.log").open("wb") as log:
        subprocess.Popen([*command, "--save", "", "--requirepass", REDIS_PASSWORD], stdout=log)


def _tell_logs(folder: Path) -> None:
    controllers = folder.glob("disk*/ray/session_2*/logs/serve/controller_*.log")
    for path in [*sorted(folder.glob("*.log")), *controllers]:
        say(f"the end of {path.name}:\n{path.read_text(errors='replace')[-LOG_END:]}")


def _is_wanted(drill: Drill, only: Sequence[str]) -> bool:
    return not only or any(word in drill.name for word in only)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.cluster", description="What does the loss of a node cost callers?"
    )
    add = parser.add_argument
    add("--rate", type=float, default=50.0, help="requests a second: nodes share the cores")
    add("--only", action="append", default=[], metavar="WORD", help="drills that hold the word")
    add("--deadline-ms", type=int, default=1500)
    return parser


if __name__ == "__main__":
    sys.exit(main())
