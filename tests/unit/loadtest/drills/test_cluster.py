"""The cluster drill: when all replicas run, and the Serve config that is deployed."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from loadtest.drills.cluster import is_whole
from loadtest.drills.parts.nodes import REPLICAS, Place, application
from serve_app.launch.config_check import read_serve_config

FIRST, SECOND = Place(1), Place(2)
SPREAD = {(name, place.ip): 1 for name in REPLICAS for place in (FIRST, SECOND)}
ON_FIRST = {(name, FIRST.ip): 2 for name in REPLICAS}


@pytest.mark.parametrize(
    ("replicas", "places", "without", "whole"),
    [
        (SPREAD, (0, 1, 2), None, True),
        (SPREAD | {("Runner", FIRST.ip): 0}, (0, 1, 2), None, False),
        ({}, (0, 1, 2), None, False),
        (SPREAD, (0, 1), None, False),  # a node has ended
        (SPREAD, (0, 1, 2), 2, False),  # a node is not empty yet
        (ON_FIRST, (0, 1, 2), 2, True),
    ],
)
def test_cluster_is_whole_with_all_replicas_on_its_nodes(
    replicas: dict[tuple[str, str], int], places: tuple[int, ...], without: int | None, whole: bool
) -> None:
    cluster = SimpleNamespace(replicas=lambda: Counter(replicas), places=places)

    assert is_whole(cluster, without=without) is whole  # type: ignore[arg-type]  # a fake of it


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
