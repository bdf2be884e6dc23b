"""Runs the service on this machine until it is told to stop: what ``make run`` calls.

Serve runs as a child in a session of its own, so that Ctrl-C reaches only this process, which then
ends the child as a whole. A local cluster that died is started again (``supervisor``).

High-throughput mode of Serve 2.60 needs both of its variables and the HAProxy binary, which is
there for Linux only.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from runner.config.loading import load_config
from runner.config.registry import load_registry
from runner.errors import ConfigError
from serve_app.launch.config_check import read_serve_config
from serve_app.launch.listeners import exposure_of
from serve_app.launch.supervisor import (
    RESTART_PAUSES_S,
    Life,
    Watch,
    answers,
    deaths_in_a_row,
    end_session,
)

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
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.edge.before_serve:middlewares",
}
# How long a caller may send nothing in the middle of a request, or take nothing of an answer: an
# hour by default. It does not count for idle connections, nor while the service makes its answer.
QUICK_CALLERS = {"RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "10"}
# glibc keeps a heap for each of a process's many threads, up to 16 of them on two cores; holes in
# them grew by 20 to 50 MB an hour (docs/reliability.md).
FEW_HEAPS = {"MALLOC_ARENA_MAX": "2"}
STOP_LIMIT_S = 30.0
LEFTOVERS_LIMIT_S = 5.0  # for what outlives Serve by a moment
LOOK_S = 0.5
PR_SET_PDEATHSIG = 1
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
    def watched(self) -> str:
        """What says whether the service lives: the embedded runtime may be away, forecasts not."""
        return self.url + ("/readyz" if "/readyz" in self.ready_paths else self.ready_paths[0])

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


def haproxy_files(folder: str) -> dict[str, str]:
    """Where Serve's HAProxy keeps its files, by the variables of Serve.

    Its admin socket lets everybody who can open it send callers' requests anywhere, and Serve makes
    it with mode 0666. So the folder must be its owner's alone, and short: Serve adds 68 characters,
    HAProxy for a moment 12, and a socket's path ends at 107.
    """
    return {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{folder}/metrics.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
    }


def private_folder() -> tempfile.TemporaryDirectory[str]:
    """A new folder with mode 0700; in /tmp, whatever TMPDIR says, for its path must be short."""
    return tempfile.TemporaryDirectory(prefix="tsfm-", dir="/tmp", ignore_cleanup_errors=True)


def main(serve_config: Path = SERVE_CONFIG) -> int:
    """Start, say where, restart what died, stop when told; the exit code for the shell."""
    try:
        target = check_files(serve_config)
    except ConfigError as exc:
        sys.stderr.write(f"The service cannot start: {exc}\n")
        return 2
    told = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda *_: told.set())
    _say("Starting; the first answer takes about 20 seconds. Ctrl-C stops everything.")
    with private_folder() as folder:
        environment = serve_environment(haproxy_files(folder) | dict(os.environ), sys.platform)
        code = _run(target, serve_config, environment, told)
    if told.is_set():
        _say("Stopped.")
    return code


def _run(
    target: Target, serve_config: Path, environment: Mapping[str, str], told: threading.Event
) -> int:
    """One cluster after the other, until told to stop or too many died in a row."""

    def on_ready(pid: int) -> None:
        if deaths:
            _say("The service answers again.")
        else:
            _say(f"\nListening on {target.url}. {target.access}")
            open_ports = exposure_of(pid, target.port, told.wait)
            _say(f"{open_ports}\n\nOpen {target.url} in a browser, or try:\n\n{target.example}\n")

    deaths, pause_s = 0, 0.0
    while not told.wait(pause_s):
        life, cause = _live(target, serve_config, environment, told, on_ready)
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
    told: threading.Event,
    on_ready: Callable[[int], None],
) -> tuple[Life, str | None]:
    """One cluster from start to end: what was seen of it, and why it died if it did."""
    child = subprocess.Popen(
        [sys.executable, "-m", "serve_app.launch.local_serve", str(serve_config)],
        env=environment,
        start_new_session=True,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads here
    )
    watch = Watch(child.pid, target.watched, child.poll, perf_counter, Life(perf_counter()))
    cause, ready = None, False
    try:
        while (cause := watch.look()) is None and not told.wait(LOOK_S):
            if not ready and all(answers(target.url + path) for path in target.ready_paths):
                ready = True
                on_ready(child.pid)
    finally:
        _stop(child, at_once=cause is not None)
    return watch.life, cause


def _stop(child: subprocess.Popen[bytes], *, at_once: bool) -> None:
    """SIGTERM ends a cluster that lives; a dead one, and what does not go in time, is killed."""
    if not at_once:
        _say("\nStopping; what Ray writes about SIGTERM now is no error.")
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(STOP_LIMIT_S)
    end_session(child.pid, patience_s=0 if at_once else LEFTOVERS_LIMIT_S)
    child.wait()


def _end_with_parent() -> None:
    """Asks the kernel for SIGTERM when the launcher dies, however that happens."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _say(text: str) -> None:
    with suppress(OSError):  # the terminal may be gone: no reason to stop, or to leave a child
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
