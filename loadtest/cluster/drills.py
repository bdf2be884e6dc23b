"""What happens to the cluster, one after the other: each returns when all is as it should be."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.cluster.application import REPLICAS
from loadtest.cluster.nodes import HEAD, Cluster, controllers, wait_for
from loadtest.cluster.sandbox import Place

LIMIT_S = 200.0  # all nodes share the cores of one machine
HEAD_AWAY_S = 70.0  # over the 60 s after which workers end themselves if they are not told


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
    del cluster.places[number]
    wait_for(lambda: is_whole(cluster, without=number), LIMIT_S, "replicas elsewhere")


def unplug_node(cluster: Cluster) -> None:
    """The same without a word to anybody: no connection is closed, and none refused."""
    number = _carrier(cluster)
    cluster.places[number].unplug()
    wait_for(lambda: is_whole(cluster, without=number), LIMIT_S, "replicas elsewhere")
    cluster.kill_node(number)
    del cluster.places[number]


def drain_node(cluster: Cluster) -> None:
    """The oldest worker: it is emptied first, and ended when it is empty."""
    number = min(n for n in cluster.places if n != HEAD)
    cluster.drain(number)
    wait_for(lambda: is_whole(cluster, without=number), LIMIT_S, "replicas elsewhere")
    wait_for(lambda: Place(number).ip not in cluster.carriers(), LIMIT_S, "an empty node")
    cluster.kill_node(number)
    del cluster.places[number]


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
    wait_for(_after(HEAD_AWAY_S), LIMIT_S, "the head's absence")
    cluster.add_node(HEAD, LIMIT_S)
    wait_for(lambda: is_whole(cluster), LIMIT_S, "the head's knowledge of its cluster")


def have_spare(cluster: Cluster) -> None:
    """A worker without replicas: Serve puts those that it starts there, so that two carry some.

    Where one worker carries everything nobody answers when it goes, and while it is drained no
    proxy says that it is well.
    """
    carry = {ip for _, ip in cluster.replicas()}
    workers = [place for number, place in cluster.places.items() if number != HEAD]
    if all(place.ip in carry for place in workers):
        add_node(cluster)


def _carrier(cluster: Cluster) -> int:
    """The newest worker that has an ingress."""
    addresses = {ip for name, ip in cluster.replicas() if name == "Ingress"}
    return max(number for number, place in cluster.places.items() if place.ip in addresses)


def _after(seconds: float) -> Callable[[], bool]:
    left = iter(range(int(seconds / 0.3)))
    return lambda: next(left, None) is None


DRILLS = (  # what comes after the head's return shows that it can do all that it could before
    Drill("nothing", lambda cluster: wait_for(_after(6.0), LIMIT_S, "a while")),
    Drill("kill the Serve controller", restart_controller),
    Drill("lose the head and regain it", lose_head, needs_redis=True),
    Drill("add a node", add_node),
    Drill("kill a node", kill_node, carries=True, needs_spare=True),
    Drill("unplug a node", unplug_node, carries=True, needs_spare=True),
    Drill("drain a node", drain_node, needs_spare=True),
)
