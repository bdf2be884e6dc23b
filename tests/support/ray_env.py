"""What every node of a cluster has in its environment: deploy/ray.env."""

import shutil
import subprocess
import sys
from pathlib import Path

from serve_app.launch.launcher import haproxy_files
from tests.support.builders import ROOT

IN_IMAGE = {"RAY_SERVE_HAPROXY_BINARY_PATH": "/usr/local/bin/tsfm-haproxy"}


def ray_env() -> dict[str, str]:
    """Its variables but those for HAProxy's files, which are others at each reading."""
    variables = _read()
    files = {name: variables.pop(name) for name in haproxy_files("")}
    folder = Path(files["RAY_SERVE_HAPROXY_SERVER_STATE_BASE"])
    mode = folder.stat().st_mode & 0o777
    shutil.rmtree(folder)
    assert (mode, files) == (0o700, haproxy_files(str(folder)))
    return variables


def _read() -> dict[str, str]:
    script = f"set -a; . {ROOT / 'deploy/ray.env'}; env"
    active = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", "-c", script], env=active, capture_output=True, text=True, check=True
    )
    pairs = (line.partition("=")[::2] for line in done.stdout.splitlines())
    return {name: value for name, value in pairs if name.startswith(("RAY_", "MALLOC_"))}
