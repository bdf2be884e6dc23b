import subprocess
from collections import Counter
from pathlib import Path
from typing import cast

import pytest
import yaml

from loadtest.drills.cluster import (
    Traffic,
    have_spare,
    is_whole,
)
from loadtest.drills.parts.nodes import HEAD, REPLICAS, SETTINGS, Cluster, Place, application
from serve_app.launch.config_check import read_serve_config
from tests.support.ray_env import ray_env

FIRST, SECOND = Place(1), Place(2)
_PROCESS = cast(subprocess.Popen[bytes], None)  # none is looked at


class FakeCluster:
    def __init__(self, replicas: dict[tuple[str, str], int]) -> None:
        self.found = Counter(replicas)
        self.places = {0: Place(0), 1: FIRST, 2: SECOND}
        self.next_number = 3
        self.added: list[int] = []

    def replicas(self) -> Counter[tuple[str, str]]:
        return self.found

    def add_node(self, number: int, limit_s: float) -> None:
        self.added.append(number)


def spread(**changes: int) -> dict[tuple[str, str], int]:
    """One replica of each deployment on each of two workers."""
    found = {(name, place.ip): 1 for name in REPLICAS for place in (FIRST, SECOND)}
    return found | {(name, FIRST.ip): number for name, number in changes.items()}


@pytest.mark.parametrize(
    ("found", "whole"), [(spread(), True), (spread(Runner=0), False), ({}, False)]
)
def test_cluster_is_whole_with_all_replicas(found: dict[tuple[str, str], int], whole: bool) -> None:
    assert is_whole(FakeCluster(found)) is whole  # type: ignore[arg-type]  # a fake of it


def test_replicas_on_a_node_that_is_gone_do_not_count() -> None:
    cluster = FakeCluster(spread())
    del cluster.places[2]

    assert not is_whole(cluster)  # type: ignore[arg-type]  # a fake of it


def test_node_that_is_to_be_empty_may_hold_nothing() -> None:
    cluster = FakeCluster(spread())

    assert not is_whole(cluster, without=2)  # type: ignore[arg-type]  # a fake of it
    cluster.found = Counter({(name, FIRST.ip): 2 for name in REPLICAS})
    assert is_whole(cluster, without=2)  # type: ignore[arg-type]  # a fake of it


def test_spare_worker_is_added_only_where_every_worker_carries_something() -> None:
    cluster = FakeCluster(spread())

    have_spare(cluster)  # type: ignore[arg-type]  # a fake of it
    cluster.found = Counter({(name, FIRST.ip): 2 for name in REPLICAS})
    have_spare(cluster)  # type: ignore[arg-type]  # a fake of it

    assert cluster.added == [3]


@pytest.mark.parametrize("scales", [True, False])
def test_application_of_the_drills_is_a_sound_serve_config(tmp_path: Path, scales: bool) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump(application(["http://10.88.0.1:1"], scales=scales)))

    deployments = read_serve_config(path)["applications"][0]["deployments"]
    found = {d["name"]: d.get("num_replicas") for d in deployments}
    scaling = {d["name"]: d.get("autoscaling_config") for d in deployments}["Runner"]

    assert found == REPLICAS | ({"Runner": None} if scales else {})
    assert (scaling is not None) is scales
    if scaling:
        assert (scaling["min_replicas"], scaling["max_replicas"]) == (2, 2)
        assert scaling["policy"] == {"policy_function": "serve_app.scaling:by_items"}


def test_nodes_get_what_every_node_of_a_cluster_should_have() -> None:
    assert SETTINGS | ray_env() == SETTINGS | {"RAY_AUTH_MODE": "token"}


async def test_traffic_waits_for_a_worker_and_gives_up_with_words() -> None:
    traffic = Traffic([200], per_second=1, seed=0)  # nobody has this address

    with pytest.raises(RuntimeError, match="no worker's proxy was healthy within 0 s"):
        await traffic.find(0)


def test_node_that_comes_never_gets_the_number_of_one_that_went(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, redis=True, env={})
    first = cluster.next_number
    cluster.commands = {HEAD: _PROCESS, 1: _PROCESS, 3: _PROCESS}
    cluster.places = {HEAD: Place(HEAD), 1: FIRST}

    assert (first, cluster.next_number) == (1, 4)
