"""A head and a worker, the application deployed on them, and the ways to change it."""

import shutil
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from loadtest.cluster.nodes import Cluster, wait_for
from loadtest.cluster.sandbox import Place
from loadtest.cluster.traffic import PORT

LIMIT_S = 240.0
WORKER = 1
_CODE = ("serve_app", "runner", "configs")
Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Version:
    """A Serve config and the folder with the code that belongs to it."""

    config: Config
    code: Path

    def variables(self) -> dict[str, str]:
        """What the application finds in its environment; may be changed in a copy."""
        found: dict[str, str] = self.config["applications"][0]["runtime_env"]["env_vars"]
        return found

    def replicas(self) -> dict[str, int]:
        """How many of each deployment there are to be."""
        return {d["name"]: d["num_replicas"] for d in self._deployments()}

    def copy(self, code: Path | None = None, **variables: str) -> "Version":
        """A version of its own, with other variables or other code."""
        made = Version(deepcopy(self.config), code or self.code)
        made.variables().update(variables)
        return made

    def scaled(self, name: str, replicas: int) -> "Version":
        """A version of its own, with so many replicas of a deployment."""
        made = self.copy()
        for deployment in made._deployments():
            if deployment["name"] == name:
                deployment["num_replicas"] = replicas
        return made

    def _deployments(self) -> list[Config]:
        found: list[Config] = self.config["applications"][0]["deployments"]
        return found


@dataclass(slots=True)
class Stage:
    """What runs now, what ran before, and ``live``: the folder with the code on every node."""

    cluster: Cluster
    live: Path
    now: Version
    before: list[Version] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{Place(WORKER).ip}:{PORT}"

    def deploy(self, version: Version) -> None:
        """Brings the code to the nodes and hands the config over; Serve goes on from there."""
        for name in _CODE:
            shutil.copytree(version.code / name, self.live / name, dirs_exist_ok=True)
        path = self.cluster.folder / "serve.yaml"
        path.write_text(yaml.safe_dump(version.config))
        self.cluster.deploy(path)

    def go_to(self, version: Version, *, replaces: bool = True) -> None:
        """Deploys a version and waits until it is all that runs."""
        old = set(self.cluster.replica_ids()) if replaces else set()
        self.before.append(self.now)
        self.deploy(version)
        self.now = version
        wait_for(lambda: self._is_all_there_is(old), LIMIT_S, "all replicas of the update")

    def go_back(self) -> None:
        """Deploys the version before this one."""
        self.go_to(self.before[-1])

    def _is_all_there_is(self, old: set[str]) -> bool:
        wanted = self.now.replicas()
        there = dict.fromkeys(wanted, 0)
        for (name, _), number in self.cluster.replicas().items():
            there[name] += number
        return there == wanted and not old & set(self.cluster.replica_ids())
