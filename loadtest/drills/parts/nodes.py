"""A cluster on one machine: namespaces, Ray nodes as processes, the application and its status.

Everything runs below one process in namespaces for processes, mounts and networks: no address of
the machine is used, and when that process ends the kernel ends all that it started.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import yaml

from loadtest.drills.harness import judged
from loadtest.service import ROOT, end_with_parent, read_config
from loadtest.stub.process import StubProcess

HEAD = 0
PORT = 8000
REPLICAS = {"Ingress": 2, "Runner": 2, "Baseline": 2}
GATEWAY = "10.88.0.1"  # where the load generator and the runtimes are
GCS_PORT, DASHBOARD_PORT, REDIS_PORT = 6379, 8265, 6390
REDIS_PASSWORD = "drill"
_BIN = Path(sys.executable).parent
_COMMON = ("--object-store-memory=100000000", "--disable-usage-stats", "--block")
_PATIENT = {"RAY_gcs_rpc_server_reconnect_timeout_s": "600"}  # Ray's own is 60
_WORDS = shlex.split((ROOT / "deploy/ray.env").read_text("utf-8"), comments=True)
SETTINGS = {  # of every node, without the paths that deploy/ray.env finds on each
    **dict(word.split("=", 1) for word in _WORDS if "=" in word and "$" not in word),
    "RAY_SERVE_HAPROXY_BINARY_PATH": str(_BIN / "tsfm-haproxy"),
    "RAY_AUTH_MODE": "disabled",  # nobody else is in this network
    "OMP_NUM_THREADS": "1",
    "TSFM_ENVIRONMENT": "dev",  # the stand-in serves tollama's own test model
}
_MARK = "TSFM_CLUSTER_SANDBOX"


@dataclass(frozen=True, slots=True)
class Place:
    """A node's network: a namespace and the address in it."""

    number: int

    @property
    def name(self) -> str:
        return f"n{self.number}"

    @property
    def ip(self) -> str:
        return f"10.88.0.{10 + self.number}"

    def machine(self, disk: Path, at: Path) -> list[str]:
        """What a command starts with to run there as on a machine of its own.

        It sees no processes but its own, and ``disk`` at the path ``at``. Ray looks for both: a
        head does not start where it finds files and a raylet of another one at its address.
        """
        alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        shell = ["sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', str(disk), str(at)]
        return ["ip", "netns", "exec", self.name, *alone, *shell]

    def pids(self) -> list[int]:
        return [int(pid) for pid in _run("ip", "netns", "pids", self.name).split()]

    def unplug(self) -> None:
        _run("ip", "link", "set", f"v{self.number}", "down")


@dataclass(slots=True)
class Cluster:
    """The nodes that live; ``folder`` holds Ray's files and the nodes' logs, ``code`` is run."""

    folder: Path
    redis: bool
    env: dict[str, str]
    code: Path = ROOT
    places: dict[int, Place] = field(default_factory=dict)
    commands: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def add_node(self, number: int, limit_s: float) -> None:
        """Starts a node and waits until it is in the cluster.

        `ray start` ends after 30 s, which is too early on a busy machine: then it is repeated.
        """

        def is_in() -> bool:
            if self.commands[number].poll() is not None:
                self.start_node(number)
            return self.places[number].ip in self.alive()

        self.start_node(number)
        wait_for(is_in, limit_s, f"node {number}")

    @property
    def next_number(self) -> int:
        """Of a new node; the number of a node that ended is not used again."""
        return max(self.commands, default=HEAD) + 1

    def start_node(self, number: int) -> None:
        """Starts a node; the head has number 0. It is up some seconds later."""
        place = self.places.get(number) or make_place(number)
        self.places[number] = place
        disk, at = self.folder / f"disk{number}", self.folder / "disk"
        for folder in (disk, at):
            folder.mkdir(exist_ok=True)
        start = [str(_BIN / "ray"), "start", f"--node-ip-address={place.ip}"]
        env = SETTINGS | {"RAY_TMPDIR": str(at), "PYTHONPATH": str(self.code)}
        with (self.folder / f"node{number}.log").open("ab") as log:
            self.commands[number] = subprocess.Popen(
                [*place.machine(disk, at), *start, *self._role(number), *_COMMON],
                cwd=self.code,
                env=os.environ | self.env | env | self._survival(number),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _role(self, number: int) -> list[str]:
        head = Place(HEAD).ip
        if number != HEAD:
            return [f"--address={head}:{GCS_PORT}", "--num-cpus=8"]
        password = [f"--redis-password={REDIS_PASSWORD}"] if self.redis else []
        address = [f"--port={GCS_PORT}", f"--dashboard-host={head}"]
        return ["--head", "--num-cpus=0", *address, *password]

    def _survival(self, number: int) -> dict[str, str]:
        """Settings that keep the other nodes alive while the head is absent."""
        if not self.redis:
            return {}
        return {"RAY_REDIS_ADDRESS": f"{GATEWAY}:{REDIS_PORT}"} if number == HEAD else _PATIENT

    def kill_node(self, number: int) -> None:
        """SIGKILL to everything on it, at once: the kernel ends the rest with its first process."""
        self.commands[number].kill()
        self.commands[number].wait()
        if number != HEAD:  # the head comes back
            del self.places[number]

    def deploy(self, config: Mapping[str, Any]) -> None:
        """`serve deploy`, which only hands the config over."""
        path = self.folder / "serve.yaml"
        path.write_text(yaml.safe_dump(config))
        command = [str(_BIN / "serve"), "deploy", "-a", self._dashboard, str(path)]
        env = os.environ | SETTINGS | {"PYTHONPATH": str(self.code)}  # it imports the policy
        subprocess.run(command, check=True, capture_output=True, env=env)

    def drain(self, number: int) -> None:
        """Ask Ray to empty a worker, as an autoscaler does before it takes the machine away."""
        node_id = self.alive()[Place(number).ip]
        command = [str(_BIN / "ray"), "drain-node", f"--address={Place(HEAD).ip}:{GCS_PORT}"]
        command += [f"--node-id={node_id}", "--reason=DRAIN_NODE_REASON_PREEMPTION"]
        command += ["--reason-message=drill", "--deadline-remaining-seconds=120"]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | SETTINGS)

    def alive(self) -> dict[str, str]:
        """Ids of the living nodes by address; none while the head cannot be asked."""
        try:
            nodes = self._get("/nodes?view=summary")["data"]["summary"]
        except (OSError, KeyError, ValueError):
            return {}
        raylets = (node["raylet"] for node in nodes)  # a new node has no "ip" of its own yet
        return {
            str(raylet["nodeManagerAddress"]): str(raylet["nodeId"])
            for raylet in raylets
            if raylet.get("state") == "ALIVE"
        }

    def replicas(self) -> Counter[tuple[str, str]]:
        """Running replicas by deployment and address; empty while not all is as it should be."""
        app = self._application()
        return Counter(
            (name, replica["node_ip"])
            for name, replica in _replicas(app)
            if app["status"] == "RUNNING" and replica["state"] == "RUNNING"
        )

    def carriers(self) -> set[str | None]:
        """Addresses of nodes with a replica, one that comes or goes included."""
        return {replica.get("node_ip") for _, replica in _replicas(self._application())}

    def replica_ids(self) -> set[str]:
        return {replica["replica_id"] for _, replica in _replicas(self._application())}

    def _application(self) -> dict[str, Any]:
        """Serve's status of the application; empty while Serve does not answer."""
        try:
            app: dict[str, Any] = self._get("/api/serve/applications/")["applications"]["tsfm"]
        except (OSError, KeyError, ValueError):
            return {"deployments": {}, "status": "unknown", "message": ""}
        return app

    def account(self) -> str:
        """Serve's message about the application if it is not healthy."""
        app = self._application()
        told = [f"application {app['status']}: {app['message'][:500]}"]
        for name, deployment in app["deployments"].items():
            states = [(r["state"], r["node_ip"]) for r in deployment["replicas"]]
            told.append(f"{name} {deployment['status']}: {deployment['message'][:300]} {states}")
        return "\n".join(told)

    def _get(self, path: str) -> Any:
        with urlopen(self._dashboard + path, timeout=5) as response:
            return json.load(response)

    @property
    def _dashboard(self) -> str:
        return f"http://{Place(HEAD).ip}:{DASHBOARD_PORT}"


def _replicas(app: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, deployment in app["deployments"].items():
        yield from ((name, replica) for replica in deployment["replicas"])


def application(urls: Sequence[str], *, scales: bool) -> dict[str, Any]:
    """The Serve config for production, with stand-ins as its runtimes and without tokens.

    ``scales`` leaves the Runner its autoscaling, with one possible number of replicas.
    """
    values = read_config(ROOT / "deploy/serve_config.prod.yaml")
    (application,) = values["applications"]
    application["args"]["config"] = "configs/local.yaml"
    application["runtime_env"]["env_vars"]["TSFM_TOLLAMA__BASE_URLS"] = json.dumps(urls)
    for deployment in application["deployments"]:
        number, scaling = REPLICAS[deployment["name"]], deployment.get("autoscaling_config")
        if scaling and scales:
            scaling["min_replicas"] = scaling["max_replicas"] = number
        else:
            deployment.pop("autoscaling_config", None)
            deployment["num_replicas"] = number
    return values


def wait_for(holds: Callable[[], bool], limit_s: float, what: str) -> float:
    """The seconds until a condition was true; a RuntimeError if it was not in time."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > limit_s:
            raise RuntimeError(f"{what}: not within {limit_s:g} s")
        time.sleep(0.3)
    return time.monotonic() - began


def controllers() -> list[int]:
    found = psutil.process_iter(["cmdline"])
    return [p.pid for p in found if "ray::ServeController" in " ".join(p.info["cmdline"] or ())]


# The drill in its sandbox


def run_in_sandbox(
    name: str,
    argv: Sequence[str],
    drill: Callable[[Path], object],
    report: Callable[[], tuple[str, list[str]]],
) -> int:
    """Starts a drill again in namespaces, runs it there in a temporary folder, and judges it."""
    _enter(argv, f"loadtest.drills.{name}")
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        return judged(name.upper(), partial(drill, Path(folder)), report)


def start_runtime() -> StubProcess:
    speed = ("--ms-per-call", "20", "--ms-per-series", "0.5")
    return StubProcess("--host", GATEWAY, "--model", "mock", *speed)


def _enter(argv: Sequence[str], module: str) -> None:
    """Starts the same command in the sandbox, waits for it, and ends with its exit code.

    SIGTERM goes to the sandbox as SIGKILL, because `unshare` itself ignores it.
    """
    if os.environ.pop(_MARK, None):
        _make_bridge()
        return
    rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    spaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command = ["unshare", *rights, *spaces, sys.executable, "-m", module, *argv]
    dies_too = partial(end_with_parent, signal.SIGKILL)
    inside = subprocess.Popen(command, env=os.environ | {_MARK: "1"}, preexec_fn=dies_too)  # noqa: PLW1509 - one call
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: inside.kill())
    code = inside.wait()
    sys.exit(code if code >= 0 else 128 - code)  # as shells say it


def make_place(number: int) -> Place:
    """A new network with a cable to the bridge."""
    place = Place(number)
    cable = f"v{number}"
    _run("ip", "netns", "add", place.name)
    _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", place.name)
    _run("ip", "link", "set", cable, "master", "br0", "up")
    _run("ip", "-n", place.name, "addr", "add", f"{place.ip}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        _run("ip", "-n", place.name, "link", "set", device, "up")
    return place


def _make_bridge() -> None:
    _run("mount", "-t", "tmpfs", "tmpfs", "/run")  # where names of networks are kept
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", "br0", "type", "bridge")
    _run("ip", "addr", "add", f"{GATEWAY}/24", "dev", "br0")
    _run("ip", "link", "set", "br0", "up")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
