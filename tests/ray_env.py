"""What every node of a cluster has in its environment: deploy/ray.env."""

import subprocess
import sys
from pathlib import Path

from tests.builders import ROOT

IN_IMAGE = {"RAY_SERVE_HAPROXY_BINARY_PATH": "/usr/local/bin/tsfm-haproxy"}


def ray_env() -> dict[str, str]:
    """Its variables, as a shell reads them."""
    script = f"set -a; . {ROOT / 'deploy/ray.env'}; env"
    active = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", "-c", script], env=active, capture_output=True, text=True, check=True
    )
    pairs = (line.partition("=")[::2] for line in done.stdout.splitlines())
    return {name: value for name, value in pairs if name.startswith(("RAY_", "MALLOC_"))}
