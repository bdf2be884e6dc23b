"""What every node of a cluster has in its environment: deploy/ray.env."""

import subprocess

from tests.builders import ROOT


def ray_env() -> dict[str, str]:
    """Its variables, as a shell reads them."""
    script = f"set -a; . {ROOT / 'deploy/ray.env'}; env"
    done = subprocess.run(["sh", "-c", script], env={}, capture_output=True, text=True, check=True)
    pairs = (line.partition("=")[::2] for line in done.stdout.splitlines())
    return {name: value for name, value in pairs if name.startswith(("RAY_", "MALLOC_"))}
