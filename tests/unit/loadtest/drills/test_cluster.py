"""The cluster drill: when all replicas run, and the Serve config that is deployed."""

from pathlib import Path

import pytest
import yaml

from loadtest.drills.parts.nodes import REPLICAS, application
from serve_app.launch.config_check import read_serve_config


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
