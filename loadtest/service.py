"""Starts the service as its users do, as ``make run`` does, and leaves nothing behind.

Every start has its own ports, its own Ray and its own temporary folder, so several can live on one
machine. The folder is also the mark by which the processes of a start are found again: Ray hands
``RAY_TMPDIR`` down to all of them, and they stay in their sessions.
"""

import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

ROOT = Path(__file__).resolve().parent.parent
LAUNCHER = (sys.executable, "-m", "serve_app.launch.launcher")
SERVE_RUN = (str(Path(sys.executable).with_name("serve")), "run")
HIGH_THROUGHPUT = ("RAY_SERVE_ENABLE_HA_PROXY", "RAY_SERVE_THROUGHPUT_OPTIMIZED")
EMBEDDED_RUNTIME = "embedded-runtime"
SHIPPED = ROOT / "serve_config.yaml"
_REPLICA_PORTS = 40
_BLOCK = 10 + 2 * _REPLICA_PORTS
_PR_SET_PDEATHSIG = 1
# below Linux's own range for outgoing connections and above Ray's for workers: no other process
# takes a port between the check and the server's bind
_LOWEST, _HIGHEST = 20_000, 29_999
_BUILD_FAILED = "Task build_serve_application failed"  # Serve would stay up and say no more
_pause = threading.Event().wait  # nobody sets it


@dataclass(frozen=True, slots=True)
class Service:
    """A running service; leaving the ``with`` block stops it."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path
    started: float = field(default_factory=time.monotonic)

    def wait_ready(self, deadline_s: float = 240.0, path: str = "/readyz") -> float:
        """The seconds from the start until ``path`` answers 200.

        Raises:
            RuntimeError: the process or the application's build failed, or the deadline passed.
        """
        while not answers(self.url + path):
            if self.process.poll() is not None:
                raise RuntimeError(f"the service ended with {self.process.returncode}{self.log()}")
            if _BUILD_FAILED in self.log():
                raise RuntimeError(f"the application could not be built{self.log()}")
            if time.monotonic() - self.started > deadline_s:
                raise RuntimeError(f"{path} did not answer in {deadline_s:g} s{self.log()}")
            _pause(0.1)
        return time.monotonic() - self.started

    def is_ready(self) -> bool:
        return answers(f"{self.url}/readyz")

    def log(self, lines: int = 40) -> str:
        text = (self.folder / "service.log").read_text("utf-8", "replace").splitlines()
        return "\n| ".join(["", *text[-lines:]])

    def processes(self) -> dict[int, str]:
        """Every process of this start that is alive, by id, with its command line."""
        return dict(_marked(self.folder))

    def stop(self, patience_s: float = 30.0) -> list[str]:
        """Sends SIGTERM to the launcher; the command lines of processes that had to be killed."""
        self.process.terminate()
        left = self._wait_gone(patience_s)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        return list(left.values())

    def _wait_gone(self, patience_s: float) -> dict[int, str]:
        until = time.monotonic() + patience_s
        while (self.process.poll() is None or self.processes()) and time.monotonic() < until:
            _pause(0.05)
        return self.processes()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(
    config: str | Path | Mapping[str, Any] = SHIPPED,
    env: Mapping[str, str] | None = None,
    *,
    without: Collection[str] = (),
    high_throughput: bool = sys.platform == "linux",
    serve_run: bool = False,
) -> Service:
    """Starts Serve with a copy of ``config`` on a free port.

    Args:
        config: a Serve config or its path; paths in it are relative to the repository root.
        env: variables on top of ours, for example ``TSFM_TOLLAMA__BASE_URL``.
        without: applications to leave out, for example ``EMBEDDED_RUNTIME``.
        high_throughput: HAProxy and the optimised data path, both or neither.
        serve_run: by ``serve run`` itself and not as ``make run`` does, without Ray's dashboard.
    """
    port = block = free_block(_BLOCK)
    folder = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))  # short: sockets live in it
    values = config if isinstance(config, Mapping) else read_config(config)
    copy = folder / "serve_config.yaml"
    wanted = adapted_config(values, port, without)
    copy.write_text(yaml.safe_dump(wanted, sort_keys=False), "utf-8")
    variables = environment(os.environ, folder, port, block, high_throughput)
    if EMBEDDED_RUNTIME in without:
        del variables["TSFM_TOLLAMA__BASE_URL"]
    variables |= env or {}
    with (folder / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [*(SERVE_RUN if serve_run else LAUNCHER), str(copy)],
            cwd=ROOT,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - one call
        )
    return Service(f"http://127.0.0.1:{port}", process, folder)


def read_config(path: str | Path = SHIPPED) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(Path(path).read_text("utf-8"))
    return values


def adapted_config(
    config: Mapping[str, Any], port: int, without: Collection[str] = ()
) -> dict[str, Any]:
    """The Serve config on another port, less some applications."""
    http = {**config.get("http_options", {}), "host": "127.0.0.1", "port": port}
    kept = [app for app in config["applications"] if app["name"] not in without]
    return {**config, "http_options": http, "applications": kept}


def environment(
    inherited: Mapping[str, str], folder: Path, port: int, block: int, high_throughput: bool
) -> dict[str, str]:
    """The variables of one start: what it inherits, its own Ray, and ports out of its block."""
    variables = {name: value for name, value in inherited.items() if name != "RAY_ADDRESS"}
    variables |= {
        "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
        # As the launcher sets them; ``serve run`` has no launcher.
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.edge.before_serve:middlewares",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
        "TSFM_CONFORMAL__LEARNED_FILE": f"{folder}/learned.json",  # of stand-ins, so not for later
        "TSFM_TOLLAMA__BASE_URL": f"http://127.0.0.1:{port}/runtime",  # where the embedded one is
    }
    mode = dict.fromkeys(HIGH_THROUGHPUT, "1" if high_throughput else "0")
    return variables | ports(block) | mode


def ports(block: int) -> dict[str, str]:
    """Every port of Serve that would be the same in two instances on one machine."""
    names = ("HAPROXY_METRICS", "HAPROXY_STATS", "FALLBACK_PROXY_HTTP", "FALLBACK_PROXY_GRPC")
    numbers = {f"{name}_PORT": block + 1 + at for at, name in enumerate(names)}
    for at, protocol in enumerate(("HTTP", "GRPC")):
        first = block + 10 + at * _REPLICA_PORTS
        numbers[f"DIRECT_INGRESS_MIN_{protocol}_PORT"] = first
        numbers[f"DIRECT_INGRESS_MAX_{protocol}_PORT"] = first + _REPLICA_PORTS - 1
    return {f"RAY_SERVE_{name}": str(number) for name, number in numbers.items()}


def free_block(size: int) -> int:
    """The first of ``size`` neighbouring ports that are all free on every interface."""
    for first in random.sample(range(_LOWEST, _HIGHEST - size), 100):
        if all_free(first, size):
            return first
    raise RuntimeError(f"no {size} free ports in a row between {_LOWEST} and {_HIGHEST}")


def all_free(first: int, size: int) -> bool:
    with contextlib.ExitStack() as stack:
        for port in range(first, first + size):
            probe = stack.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                return False
    return True


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Asks the kernel for a signal when the parent process ends, for any reason."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def answers(url: str, timeout_s: float = 2.0) -> bool:
    """Whether an address answers 200 in time."""
    try:
        # without verify=False each call reads every certificate, which costs 40 ms of CPU
        return httpx.get(url, timeout=timeout_s, trust_env=False, verify=False).status_code == 200
    except httpx.HTTPError:
        return False


def _marked(folder: Path) -> Iterator[tuple[int, str]]:
    """Processes that inherited the folder, and all of their sessions; nothing without /proc.

    Ray's agents write their names over what they inherited. psutil would take five times as long,
    on the cores of the service that is measured.
    """
    mark = f"RAY_TMPDIR={folder}".encode()
    seen = [int(place.name) for place in Path("/proc").glob("[0-9]*")]
    sessions = {_session(pid) for pid in seen if mark in _read(pid, "environ").split(b"\0")}
    for pid in seen:
        if _session(pid) in sessions - {None} and (line := _read(pid, "cmdline")):
            yield pid, line.replace(b"\0", b" ").decode("utf-8", "replace").strip()


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended, or is somebody else's
        return b""


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None
