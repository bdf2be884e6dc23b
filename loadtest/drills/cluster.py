"""Measures the cost to callers of losing a node, Serve's controller or the cluster's head.

    python -m loadtest.drills.cluster
    python -m loadtest.drills.cluster --rate 50 --only "kill a node"

A head and two workers, the prod config's replicas spread over them, steady traffic. Needs Linux
with `unshare` and `ip`, and `redis-server` for the loss of the head. The last line is
``CLUSTER_PASS`` or ``CLUSTER_FAIL: why``.
"""

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from loadtest.drills import harness
from loadtest.drills.chaos import Attempt, Row, cells, failures, is_lost
from loadtest.drills.harness import Client
from loadtest.drills.parts.nodes import (
    GATEWAY,
    HEAD,
    PORT,
    REDIS_PASSWORD,
    REDIS_PORT,
    REPLICAS,
    Cluster,
    Place,
    application,
    controllers,
    run_in_sandbox,
    start_runtime,
    wait_for,
)
from loadtest.payloads import Shape, encode, windows
from loadtest.service import answers

SHAPE = Shape(model="mock", points=96)
LIMIT_S = 200.0  # all nodes share the cores of one machine
HEAD_AWAY_S = 70.0  # over the 60 s after which workers end themselves by default
LEAD_S, TAIL_S = 3.0, 3.0
RETRY_AFTER_S, LOOK_AGAIN_S = 1.0, 0.3
TIMEOUT_S = 10.0
NO_LIMIT_MS = 1e9  # lateness is shown and not judged: all nodes share the cores of one machine
OPTIONS: dict[str, tuple[Any, str]] = {
    "--rate": (50.0, "requests a second: nodes share the cores"),
    "--only": (list[str](), "run only the drills whose name contains this"),
    "--deadline-ms": (1500, "of a request"),
}


# What happens to the cluster: each returns when all is as it should be


@dataclass(frozen=True, slots=True)
class Drill:
    """``carries``: what it takes away held requests of callers, so that some may be lost.

    ``needs_spare``: it takes a worker away, so there is to be one that carries nothing yet.
    """

    name: str
    run: Callable[[Cluster], object]
    carries: bool = False
    needs_spare: bool = False
    needs_redis: bool = False


def is_whole(cluster: Cluster, *, without: int | None = None) -> bool:
    """Whether every replica runs, and none on the node that is to be empty."""
    found = cluster.replicas()
    if without is not None and any(ip == Place(without).ip for _, ip in found):
        return False
    alive = {Place(number).ip for number in cluster.places}
    counts = dict.fromkeys(REPLICAS, 0)
    for (name, ip), number in found.items():
        counts[name] += number if ip in alive else 0
    return all(counts[name] >= number for name, number in REPLICAS.items())


def add_node(cluster: Cluster) -> None:
    cluster.add_node(cluster.next_number, LIMIT_S)


def kill_node(cluster: Cluster) -> None:
    """A worker that has an ingress: every process of it, in the same moment."""
    number = _carrier(cluster)
    cluster.kill_node(number)
    wait_for(lambda: is_whole(cluster, without=number), LIMIT_S, "replicas elsewhere")


def unplug_node(cluster: Cluster) -> None:
    """The same without a signal: no connection is closed, and none refused."""
    number = _carrier(cluster)
    cluster.places[number].unplug()
    wait_for(lambda: is_whole(cluster, without=number), LIMIT_S, "replicas elsewhere")
    cluster.kill_node(number)


def drain_node(cluster: Cluster) -> None:
    """The oldest worker: it is emptied first, and ended when it is empty."""
    number = min(n for n in cluster.places if n != HEAD)
    cluster.drain(number)
    wait_for(lambda: is_whole(cluster, without=number), LIMIT_S, "replicas elsewhere")
    wait_for(lambda: Place(number).ip not in cluster.carriers(), LIMIT_S, "an empty node")
    cluster.kill_node(number)


def restart_controller(cluster: Cluster) -> None:
    before = controllers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: bool(set(controllers()) - set(before)), LIMIT_S, "a new controller")
    wait_for(lambda: is_whole(cluster), LIMIT_S, "the controller's knowledge of its replicas")


def lose_head(cluster: Cluster) -> None:
    """Every process of the head, which comes back after a while with its state from Redis."""
    cluster.kill_node(HEAD)
    wait_for(lambda: not cluster.places[HEAD].pids(), LIMIT_S, "the head's end")
    time.sleep(HEAD_AWAY_S)
    cluster.add_node(HEAD, LIMIT_S)
    wait_for(lambda: is_whole(cluster), LIMIT_S, "the head's knowledge of its cluster")


def have_spare(cluster: Cluster) -> None:
    """Adds a worker if none is without replicas; else one worker may get all that were on two."""
    carry = {ip for _, ip in cluster.replicas()}
    workers = [place for number, place in cluster.places.items() if number != HEAD]
    if all(place.ip in carry for place in workers):
        add_node(cluster)


def _carrier(cluster: Cluster) -> int:
    """The newest worker that has an ingress."""
    addresses = {ip for name, ip in cluster.replicas() if name == "Ingress"}
    return max(number for number, place in cluster.places.items() if place.ip in addresses)


DRILLS = (  # what comes after the head's return shows that it can do all that it could before
    Drill("nothing", lambda _: time.sleep(6.0)),
    Drill("kill the Serve controller", restart_controller),
    Drill("lose the head and regain it", lose_head, needs_redis=True),
    Drill("add a node", add_node),
    Drill("kill a node", kill_node, carries=True, needs_spare=True),
    Drill("unplug a node", unplug_node, carries=True, needs_spare=True),
    Drill("drain a node", drain_node, needs_spare=True),
)


class Traffic:
    """Sends to healthy workers in turn, as a Kubernetes Service does."""

    def __init__(self, workers: Iterable[int], per_second: float, seed: int) -> None:
        urls = [f"http://{Place(number).ip}:{PORT}" for number in workers]
        self._clients = {url: Client(url, SHAPE, TIMEOUT_S) for url in urls}
        self._healthy: list[str] = []
        self._per_second = per_second
        self._seed = seed
        self._turns = count()
        self._on = True
        self.attempts: list[Attempt] = []

    def now_s(self) -> float:
        """Seconds since the start; all clients began in the same moment."""
        return next(iter(self._clients.values())).now_s()

    async def find(self, limit_s: float) -> None:
        """Waits until a worker is healthy; a RuntimeError if none is in time."""
        until_s = self.now_s() + limit_s
        while not self._healthy:
            if self.now_s() > until_s:
                raise RuntimeError(f"no worker's proxy was healthy within {limit_s:g} s")
            await self._look()
            await asyncio.sleep(0.0 if self._healthy else LOOK_AGAIN_S)

    async def _look(self) -> None:
        """Which workers are healthy by a readiness probe; the same as before if none is."""
        checks = [asyncio.to_thread(answers, f"{url}/-/healthz", 1.0) for url in self._clients]
        healthy = await asyncio.gather(*checks)
        found = [url for url, up in zip(self._clients, healthy, strict=True) if up]
        self._healthy = found or self._healthy

    async def ask(self) -> None:
        """Sends requests, and reads the status every second, until ``stop``."""
        looking = asyncio.create_task(self._keep_looking())
        await harness.at_rate(self._per_second, self._attempt, lambda _: self._on)
        looking.cancel()
        for client in self._clients.values():
            client.close()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            await self._look()

    def stop(self) -> None:
        self._on = False

    async def _attempt(self, number: int) -> None:
        body = encode(next(windows(number, SHAPE, self._seed)), SHAPE)
        url = self._next()
        first, retry = await self._clients[url].send(body), None
        if is_lost(first):
            await asyncio.sleep(RETRY_AFTER_S)
            retry = await self._clients[self._next(but=url)].send(body)
        self.attempts.append(Attempt(first, retry))

    def _next(self, but: str | None = None) -> str:
        """The next worker that was healthy a second ago; not the one that has just failed."""
        urls = [url for url in self._healthy if url != but] or self._healthy
        return urls[next(self._turns) % len(urls)]


def main(argv: list[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else argv
    args = harness.options("drills.cluster", __doc__, given, OPTIONS)
    drills, rows = harness.selected("CLUSTER", DRILLS, args.only), list[Row]()
    redis = shutil.which("redis-server") is not None
    possible = [drill for drill in drills if redis or not drill.needs_redis]
    untried = [f"not tried without redis-server: {d.name}" for d in drills if d not in possible]
    if untried:
        harness.say("; ".join(untried) + " (apt-get install redis-server)")
    return run_in_sandbox(
        "cluster",
        given,
        partial(_run, redis=redis, drills=possible, args=args, rows=rows),
        lambda: (harness.table(map(cells, rows)), untried + failures(rows, NO_LIMIT_MS)),
    )


def _run(
    folder: Path, redis: bool, drills: Sequence[Drill], args: argparse.Namespace, rows: list[Row]
) -> None:
    if redis:
        _start_redis(folder)
    urls = [start_runtime().url for _ in range(2)]
    cluster = Cluster(folder, redis, {"TSFM_REQUEST__DEADLINE_MS": str(args.deadline_ms)})
    try:
        _bring_up(cluster, urls)
        for number, drill in enumerate(drills, 1):
            wait_for(partial(is_whole, cluster), LIMIT_S, "the end of the drill before")
            if drill.needs_spare:
                have_spare(cluster)
            rows.append(asyncio.run(_drill(cluster, drill, args.rate, number)))
    except BaseException:
        harness.say(cluster.account())
        raise


def _bring_up(cluster: Cluster, urls: Sequence[str]) -> None:
    # Serve spreads replicas over the nodes it knows, and moves none to those that come later
    for number in (HEAD, 1, 2):
        cluster.add_node(number, LIMIT_S)
    cluster.deploy(application(urls, scales=True))
    took_s = wait_for(lambda: is_whole(cluster), 2 * LIMIT_S, "the application")
    workers = [f"http://{Place(number).ip}:{PORT}/readyz" for number in (1, 2)]
    wait_for(lambda: any(map(answers, workers)), LIMIT_S, "an ingress")
    harness.say(f"application running after {took_s:.0f} s: {dict(cluster.replicas())}")


async def _drill(cluster: Cluster, drill: Drill, rate: float, seed: int) -> Row:
    traffic = Traffic(range(1, cluster.next_number + 1), rate, seed)
    await traffic.find(LIMIT_S)
    asking = asyncio.create_task(traffic.ask())
    await asyncio.sleep(LEAD_S)
    began_s = traffic.now_s()
    try:
        await asyncio.to_thread(drill.run, cluster)
        took_s = traffic.now_s() - began_s
        await asyncio.sleep(TAIL_S)
    finally:
        traffic.stop()
        await asking
    row = Row(drill.name, traffic.attempts, began_s, took_s, drill.carries)
    harness.say(f"{harness.table_line(cells(row))}\n  replicas: {dict(cluster.replicas())}")
    return row


def _start_redis(folder: Path) -> None:
    command = ["redis-server", "--bind", GATEWAY, "--port", str(REDIS_PORT), "--dir", str(folder)]
    with (folder / "redis.log").open("wb") as log:
        subprocess.Popen([*command, "--save", "", "--requirepass", REDIS_PASSWORD], stdout=log)


if __name__ == "__main__":
    sys.exit(main())
