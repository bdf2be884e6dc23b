"""Runs the service on this machine until a signal stops it (``make run``, ``tsfm serve``).

Serve runs as a child in its own session, so that Ctrl-C reaches only this process, which then ends
the whole session. A local cluster that died is started again (``supervisor``).

High-throughput mode of Serve 2.60 needs both of its variables and the HAProxy binary, which exists
for Linux only.
"""

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil

from runner.config.loading import Config, load_config
from runner.config.registry import registry_of
from runner.errors import ConfigError
from serve_app.launch.config_check import read_serve_config
from serve_app.launch.supervisor import (
    RESTART_PAUSES_S,
    Life,
    Watch,
    answers,
    body_of,
    deaths_in_a_row,
    end_session,
)

SERVE_CONFIG = Path("serve_config.yaml")
EMBEDDED_RUNTIME = "serve_app.embedded_runtime:build"
RUNTIME_VARIABLE = "TSFM_TOLLAMA__BASE_URL"  # of one runtime; with an S of several
LEFT_OUT = Path(__file__).with_name("left_out")
HIGH_THROUGHPUT = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
DEFAULT_PORT = 8000
OTHER_PORTS = {
    "RAY_SERVE_HAPROXY_METRICS_PORT": 9101,
    "RAY_SERVE_HAPROXY_STATS_PORT": 8404,
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": 8500,
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": 9500,
}
DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_COLOR_PREFIX": "0",  # programs read the log lines that Ray passes on
    # Serve notices a dead process of its own sooner, and retries a request whose replica died
    # before it answered; with its defaults the first takes tens of seconds, and the request fails.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
    "RAY_SERVE_DEPLOYMENT_ACTOR_HEALTH_CHECK_PERIOD_S": "2",
    # Serve gives a proxy 5 s to start, then starts another one; on a busy machine none is ever
    # ready.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
    # Rules for which Serve has no variable; described in `edge.haproxy` and `edge.before_serve`.
    "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(sys.executable).with_name("tsfm-haproxy")),
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.edge.before_serve:middlewares",
    # Time limit for a caller that stops sending a request or reading an answer: an hour by default.
    # It applies neither to idle connections nor while the service computes an answer.
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "10",
    # glibc uses a heap for each of many threads, up to 16 heaps on two cores; their fragmentation
    # grew by 20 to 50 MB an hour (docs/reliability.md).
    "MALLOC_ARENA_MAX": "2",
}
READS, READ_PAUSE_S = 20, 0.5  # of ports, and of what the runtime has, until it is known
NOT_INSTALLED = (
    "The runtime does not have the default model, {}: requests without a model get the baseline. "
    "`tsfm models` lists what it has; TSFM_REQUEST__MODEL sets another default."
)
NO_RUNTIME = "No runtime answers: the baseline does, until one does."
STOP_LIMIT_S = 30.0
LEFTOVERS_LIMIT_S = 5.0  # for processes that end shortly after Serve
CHECK_PERIOD_S = 0.5
PR_SET_PDEATHSIG = 1
EXAMPLE = """\
curl -s {url}/tsfm/forecast -H 'content-type: application/json'{token} -d '{{
  "market_id": "m-1", "as_of_ts": "2026-02-20T12:00:00Z", "freq": "5m", "horizon_steps": 12,
  "y": [0.41,0.42,0.40,0.43,0.44,0.45,0.46,0.45,0.44,0.43,0.42,0.41,0.40,0.41,0.42,0.43,
        0.44,0.45,0.46,0.47,0.48,0.47,0.46,0.45,0.44,0.43,0.42,0.41,0.40,0.41,0.42,0.43]}}'"""


def serve_environment(environment: Mapping[str, str], platform: str) -> dict[str, str]:
    """The child's environment: our defaults below the variables that are set already.

    The folder ``left_out`` comes first in PYTHONPATH: the service's processes do without pandas.
    """
    system = HIGH_THROUGHPUT if platform.startswith("linux") else {}
    path = os.pathsep.join(filter(None, (str(LEFT_OUT), environment.get("PYTHONPATH"))))
    return DEFAULTS | system | dict(environment) | {"PYTHONPATH": path}


@dataclass(frozen=True, slots=True)
class Target:
    """The address of the service, and the paths that must answer before it is ready."""

    host: str
    port: int
    ready_paths: tuple[str, ...]
    callers: int  # number of names with a token; 0: calls need no token
    variables: Mapping[str, str]  # the address of the embedded runtime, which has the same port

    @property
    def url(self) -> str:
        """The address without a path."""
        return f"http://{self.host}:{self.port}"

    @property
    def watched(self) -> str:
        """The URL of the liveness check: forecasts must work, the embedded runtime need not."""
        return self.url + ("/readyz" if "/readyz" in self.ready_paths else self.ready_paths[0])

    @property
    def access(self) -> str:
        """A sentence about access control."""
        if self.callers:
            return f"Callers need a token; {self.callers} have one."
        return "No tokens are configured: any caller that reaches this port is accepted."

    @property
    def example(self) -> str:
        """An example request, as a shell command."""
        token = ' -H "authorization: Bearer $TOKEN"' if self.callers else ""
        return EXAMPLE.format(url=self.url, token=token)


def with_port(serve_config: Path, port: int, folder: Path) -> Path:
    """A copy of a Serve config in ``folder``, with another port; ConfigError as `check_files`."""
    values = read_serve_config(serve_config)
    values["http_options"]["port"] = port
    copy = folder / serve_config.name
    copy.write_text(json.dumps(values), "utf-8")  # JSON is YAML
    return copy


def check_files(serve_config: Path) -> Target:
    """Checks the Serve config and every file it names; returns the address to listen on.

    Raises:
        ConfigError: a file is missing or wrong, or the port is taken.
    """
    values = read_serve_config(serve_config)
    named = (application.get("args", {}).get("config") for application in values["applications"])
    configs = [load_config(path) for path in named if path]
    for config in configs:
        registry_of(config)
    callers = {entry.name for config in configs for entry in config.security.tokens}
    host, port = values["http_options"]["host"], values["http_options"]["port"]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            raise ConfigError(
                f"{host}:{port} is taken ({exc.strerror}); stop what listens there, "
                "or choose another port: make run PORT=8001, tsfm serve --port 8001"
            ) from exc
    prefixes = (application["route_prefix"] for application in values["applications"])
    ready = ("/readyz" if prefix == "/" else f"{prefix}/health/ready" for prefix in prefixes)
    return Target(host, port, tuple(ready), len(callers), _embedded(values, configs, port))


def _embedded(values: Mapping[str, Any], configs: Sequence[Config], port: int) -> dict[str, str]:
    """The variable with the embedded runtime's address, where that is the only runtime.

    The configuration file names it with the default port. A runtime in the environment stays.
    """
    if any(name.startswith(RUNTIME_VARIABLE) for name in os.environ):
        return {}
    urls = [url for config in configs for url in config.tollama.base_urls]
    for application in values["applications"]:
        path = application["route_prefix"]
        is_only = all(re.fullmatch(rf"http://127\.0\.0\.1:\d+{path}/?", str(url)) for url in urls)
        if application["import_path"] == EMBEDDED_RUNTIME and is_only:
            return {RUNTIME_VARIABLE: f"http://127.0.0.1:{port}{path}"}
    return {}


def haproxy_files(folder: str) -> dict[str, str]:
    """The paths of HAProxy's files, by Serve's variables.

    A process that can open its admin socket can redirect callers' requests, and Serve creates the
    socket with mode 0666. So only the owner may enter the folder. Its path must be short: Serve
    adds 68 characters, HAProxy temporarily 12, and a socket's path has at most 107.
    """
    return {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{folder}/metrics.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
    }


def serve_ports(port: int) -> dict[str, str]:
    """Serve's other fixed ports, by its variables: as far from their defaults as ``port`` is.

    So services with different ports run on one machine side by side.
    """
    numbers = {name: default + port - DEFAULT_PORT for name, default in OTHER_PORTS.items()}
    return {name: str(number) for name, number in numbers.items() if 1024 <= number < 2**16}


def private_folder() -> tempfile.TemporaryDirectory[str]:
    """A new folder with mode 0700; always in /tmp, not in TMPDIR, as its path must be short."""
    return tempfile.TemporaryDirectory(prefix="tsfm-", dir="/tmp", ignore_cleanup_errors=True)


def check_path(python: str) -> None:
    """Raises ConfigError for a path that Ray, which does not quote it, cannot start Python from."""
    if re.search(r"[\s\"'\\$`&|;<>()*?\[\]{}#!~]", python):
        raise ConfigError(
            f"{python}: Ray cannot start Python from a path with a space or a character that is "
            "special to the shell. Move this folder, or install into another one."
        )


def main(serve_config: Path = SERVE_CONFIG, port: int | None = None) -> int:
    """Starts the service, restarts a dead cluster, stops at a signal; returns the exit code.

    ``port`` replaces the one of ``serve_config``.
    """
    stop = threading.Event()
    with private_folder() as folder:
        try:
            check_path(sys.executable)
            if port is not None:
                serve_config = with_port(serve_config, port, Path(folder))
            target = check_files(serve_config)
        except ConfigError as exc:
            sys.stderr.write(f"The service cannot start: {exc}\n")
            return 2
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, lambda *_: stop.set())
        _say("Starting; the first answer takes about 20 seconds. Ctrl-C stops everything.")
        own = {**haproxy_files(folder), **serve_ports(target.port), **os.environ}
        own |= target.variables
        code = _run(target, serve_config, serve_environment(own, sys.platform), stop)
    if stop.is_set():
        _say("Stopped.")
    return code


def _run(
    target: Target, serve_config: Path, environment: Mapping[str, str], stop: threading.Event
) -> int:
    """Runs one cluster after the other, until a signal, or too many deaths in a row."""

    def on_ready(pid: int) -> None:
        if deaths:
            _say("The service answers again.")
        else:
            _say(f"\nListening on {target.url}. {target.access}")
            _say(exposure_of(pid, target.port, stop.wait))
            if "/readyz" in target.ready_paths and (note := model_note(target.watched, stop.wait)):
                _say(note)
            _say(f"\n{target.example}\n\nOpen {target.url} in a browser, or send this request.")

    deaths, pause_s = 0, 0.0
    while not stop.wait(pause_s):
        life, cause = _live(target, serve_config, environment, stop, on_ready)
        if cause is None:
            break
        deaths = deaths_in_a_row(deaths, life)
        if deaths > len(RESTART_PAUSES_S):
            _say(f"The service died: {cause}. Giving up after {deaths} deaths in a row.")
            return 1
        pause_s = RESTART_PAUSES_S[deaths - 1]
        _say(f"The service died: {cause}. Restarting in {pause_s:g} s, death {deaths} in a row.")
    return 0


def _live(
    target: Target,
    serve_config: Path,
    environment: Mapping[str, str],
    stop: threading.Event,
    on_ready: Callable[[int], None],
) -> tuple[Life, str | None]:
    """Runs one cluster; returns the observations of it, and the cause of death if it died."""
    child = subprocess.Popen(
        [sys.executable, "-m", "serve_app.launch.local_serve", str(serve_config)],
        env=environment,
        start_new_session=True,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads here
    )
    watch = Watch(child, target.watched, perf_counter, Life(perf_counter()))
    cause, ready = None, False
    try:
        while (cause := watch.check()) is None and not stop.wait(CHECK_PERIOD_S):
            if not ready and all(answers(target.url + path) for path in target.ready_paths):
                ready = True
                on_ready(child.pid)
    finally:
        _stop(child, at_once=cause is not None)
    return watch.life, cause


def _stop(child: subprocess.Popen[bytes], *, at_once: bool) -> None:
    """Ends a running cluster by SIGTERM; kills a dead one, and processes that take too long."""
    if not at_once:
        _say("\nStopping.")
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(STOP_LIMIT_S)
    end_session(child.pid, patience_s=0 if at_once else LEFTOVERS_LIMIT_S)
    child.wait()


def model_note(url: str, pause: Callable[[float], object]) -> str:
    """What ``/readyz`` says about the default model, if there is something to do."""
    for _ in range(READS):
        ready = json.loads(body_of(url) or b"{}")
        has = ready.get("default_model_installed")
        if has is not None:
            return "" if has else NOT_INSTALLED.format(ready["default_model"])
        pause(READ_PAUSE_S)
    return NO_RUNTIME


def _end_with_parent() -> None:
    """Makes the kernel send SIGTERM to the child when the launcher dies for any reason."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _say(text: str) -> None:
    with suppress(OSError):  # the terminal may be closed: the launcher must go on all the same
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class Listener:
    """A port on which a process of the service accepts connections."""

    port: int
    address: str


def exposure_of(pid: int, port: int, pause: Callable[[float], object]) -> str:
    """One line about the ports of a process and its descendants beyond loopback.

    Serve replaces the HAProxy process once or twice during the start, and in between its sockets
    have no owner: so the ports are read again, after a pause, until ``port`` is among them.
    """
    with suppress(psutil.Error):  # the process has ended
        for _ in range(READS):
            found = listeners_of(pid)
            if port in {listener.port for listener in found}:
                return exposure(found)
            pause(READ_PAUSE_S)
    return "What listens beyond this machine cannot be read here."


def listeners_of(pid: int) -> list[Listener]:
    """Listening TCP sockets of a process and its descendants; psutil.Error if it has ended."""
    root, found = psutil.Process(pid), []
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.Error):  # it has ended meanwhile, or belongs to another user
            sockets = [s for s in process.net_connections("tcp") if s.status == psutil.CONN_LISTEN]
            found += [Listener(s.laddr.port, s.laddr.ip) for s in sockets]
    return found


def exposure(listeners: Iterable[Listener]) -> str:
    """One line about the ports beyond loopback."""
    ports = {one.port for one in listeners if not is_loopback(one.address)}
    if not ports:
        return "Nothing listens beyond this machine."
    return (
        f"Other machines reach {len(ports)} ports of Ray and Serve; "
        "keep a firewall in front: docs/security.md."
    )


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the address."""
    ip = ip_address(address)
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback


if __name__ == "__main__":
    config_file, *its_port = sys.argv[1:] or [str(SERVE_CONFIG)]
    sys.exit(main(Path(config_file), int(its_port[0]) if its_port else None))
