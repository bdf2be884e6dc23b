"""Runs the service on this machine until it is told to stop: what ``make run`` calls.

Serve runs as a child in a session of its own, so that Ctrl-C reaches only this process, which then
ends the child as a whole. High-throughput mode of Serve 2.60 needs both of its variables and the
HAProxy binary, which is there for Linux only.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from runner.config import load_config
from runner.errors import ConfigError
from runner.models import load_registry
from serve_app.listeners import exposure_of
from serve_app.serve_check import read_serve_config

SERVE_CONFIG = Path("serve_config.yaml")
HIGH_THROUGHPUT = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
# How soon Serve notices a process of its own that died: its defaults take tens of seconds, and give
# up a request whose replica died before it answered.
QUICK_REPAIR = {
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
    "RAY_SERVE_DEPLOYMENT_ACTOR_HEALTH_CHECK_PERIOD_S": "2",
}
# Serve gives a proxy 5 s to come up and then starts another one; on a busy machine none ever does.
PATIENT_START = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30"}
# What no variable of Serve reaches; the two modules say what it is.
OWN_RULES = {
    "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(sys.executable).with_name("tsfm-haproxy")),
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.before_serve:middlewares",
}
# How long a caller may send nothing in the middle of a request, or take nothing of an answer: an
# hour by default. It does not count for idle connections, nor while the service makes its answer.
QUICK_CALLERS = {"RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "10"}
# glibc keeps a heap for each of a process's many threads, up to 16 of them on two cores; holes in
# them grew by 20 to 50 MB an hour (docs/reliability.md).
FEW_HEAPS = {"MALLOC_ARENA_MAX": "2"}
START_LIMIT_S = 120.0
STOP_LIMIT_S = 30.0
EXAMPLE = """\
curl -s {url}/tsfm/forecast -H 'content-type: application/json'{token} -d '{{
  "market_id": "m-1", "as_of_ts": "2026-02-20T12:00:00Z", "freq": "5m", "horizon_steps": 12,
  "y": [0.41,0.42,0.40,0.43,0.44,0.45,0.46,0.45,0.44,0.43,0.42,0.41,0.40,0.41,0.42,0.43,
        0.44,0.45,0.46,0.47,0.48,0.47,0.46,0.45,0.44,0.43,0.42,0.41,0.40,0.41,0.42,0.43]}}'"""


def serve_environment(environment: Mapping[str, str], platform: str) -> dict[str, str]:
    """The child's environment: high-throughput mode where it exists, unless already decided."""
    defaults = HIGH_THROUGHPUT if platform.startswith("linux") else {}
    return (
        {"RAY_USAGE_STATS_ENABLED": "0"}
        | QUICK_REPAIR
        | PATIENT_START
        | OWN_RULES
        | QUICK_CALLERS
        | FEW_HEAPS
        | defaults
        | dict(environment)
    )


@dataclass(frozen=True, slots=True)
class Target:
    """Where the service will listen, and what must answer there before it is up."""

    host: str
    port: int
    ready_paths: tuple[str, ...]
    callers: int  # that have a token; with none at all, everybody may call

    @property
    def url(self) -> str:
        """The address without a path."""
        return f"http://{self.host}:{self.port}"

    @property
    def access(self) -> str:
        """Who may call, in a sentence."""
        if self.callers:
            return f"Callers need a token; {self.callers} have one."
        return "No tokens are configured: whoever reaches this port may call."

    @property
    def example(self) -> str:
        """A request to try."""
        token = ' -H "authorization: Bearer $TOKEN"' if self.callers else ""
        return EXAMPLE.format(url=self.url, token=token)


def check_files(serve_config: Path) -> Target:
    """The address to listen on, once every file behind it has been found to be sound.

    Raises:
        ConfigError: a file is missing or wrong, or the port is taken.
    """
    values = read_serve_config(serve_config)
    named = (application.get("args", {}).get("config") for application in values["applications"])
    configs = [load_config(path) for path in named if path]
    for config in configs:
        load_registry(config.models_file)
    callers = {entry.name for config in configs for entry in config.security.tokens}
    host, port = values["http_options"]["host"], values["http_options"]["port"]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            raise ConfigError(
                f"{host}:{port} is taken ({exc.strerror}); stop what listens there, "
                f"or change http_options.port in {serve_config}"
            ) from exc
    prefixes = (application["route_prefix"] for application in values["applications"])
    ready = ("/readyz" if prefix == "/" else f"{prefix}/health/ready" for prefix in prefixes)
    return Target(host, port, tuple(ready), len(callers))


def main(serve_config: Path = SERVE_CONFIG) -> int:
    """Start, say where, wait, stop; the exit code for the shell."""
    try:
        target = check_files(serve_config)
    except ConfigError as exc:
        sys.stderr.write(f"The service cannot start: {exc}\n")
        return 2
    told = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda *_: told.set())
    _say("Starting; the first answer takes about 20 seconds. Ctrl-C stops everything.")
    child = subprocess.Popen(
        [sys.executable, "-m", "serve_app.local_serve", str(serve_config)],
        env=serve_environment(os.environ, sys.platform),
        start_new_session=True,
    )
    try:
        if _wait_ready(target, child, told):
            open_ports = exposure_of(child.pid, target.port, told.wait)
            _say(f"\nListening on {target.url}. {target.access}")
            _say(f"{open_ports}\n\nOpen {target.url} in a browser, or try:\n\n{target.example}\n")
        while child.poll() is None and not told.wait(0.5):
            pass
    finally:
        with suppress(OSError):  # the terminal may be gone: that is no reason to leave the child
            _say("\nStopping; what Ray writes about SIGTERM now is no error.")
        _stop(child)
    with suppress(OSError):
        _say("Stopped.")
    return 0 if told.is_set() else 1


def _wait_ready(target: Target, child: subprocess.Popen[bytes], told: threading.Event) -> bool:
    """Whether every application answers before the limit, the child's end, or a signal."""
    waits = int(START_LIMIT_S / 0.25)
    return any(
        all(_answers(target.url + path) for path in target.ready_paths)
        for _ in range(waits)
        if child.poll() is None and not told.wait(0.25)
    )


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def _stop(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM ends the whole local cluster; what does not go in time is killed as a group."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
