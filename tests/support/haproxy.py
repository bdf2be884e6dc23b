"""HAProxy as Serve configures and starts it, without a Serve around it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

PROGRAM = Path(sys.executable).with_name("tsfm-haproxy")


def write_serve_configuration(
    folder: Path,
    ports: tuple[int, int, int],
    replica: int | None,
    host: str = "127.0.0.1",
    **options: Any,
) -> Path:
    """The file that the installed Serve writes.

    Args:
        folder: for the file and HAProxy's sockets.
        ports: of the service, of HAProxy's metrics and of its statistics.
        replica: the port of the only ingress replica, or none before Serve knows its routes.
        host: the service's address.
        options: others of Serve's HAProxyConfig.
    """
    config = HAProxyConfig(
        http_options=HTTPOptions(host=host, port=ports[0]),
        metrics_port=ports[1],
        stats_port=ports[2],
        socket_path=f"{folder}/admin.sock",
        metrics_socket_path=f"{folder}/metrics.sock",
        server_state_base=str(folder),
        server_state_file=f"{folder}/state",
        is_head=True,
        **options,
    )
    path = folder / "haproxy.cfg"
    api = HAProxyApi(config, config_file_path=str(path))
    if replica is not None:
        server = ServerConfig("replica", "127.0.0.1", replica)
        api.set_backend_configs({"tsfm": BackendConfig("tsfm", "/", servers=[server])})
    api._generate_config_file_internal()
    return path


@contextmanager
def running(configuration: Path) -> Iterator[subprocess.Popen[bytes]]:
    """HAProxy as Serve starts it, until the end of the block."""
    command = [str(PROGRAM), "-db", "-f", str(configuration), "-dR"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
