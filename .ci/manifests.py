"""Writes what stands twice under deploy/; edit the sources, then run `make manifests`.

That is the Serve config inside the RayService, and the whole prod overlay as one file.
"""

import shutil
import subprocess
import sys
from pathlib import Path

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
SERVE_CONFIG = DEPLOY / "serve_config.prod.yaml"
BASE = DEPLOY / "kustomize/base/rayservice.yaml"
RENDERED = DEPLOY / "rayservice.yaml"
BEGIN, END = "  serveConfigV2: |\n", "  rayClusterConfig:\n"
HEADER = """\
# Everything of deploy/kustomize/overlays/prod in one file, for those without Kustomize. Written by
# `make manifests`: edit the overlay, or a copy of this.
"""


def embed(manifest: str, serve_config: str) -> str:
    """The RayService with ``serve_config`` as its ``serveConfigV2``, letter by letter."""
    before, _, rest = manifest.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = (f"    {line}" if line.strip() else line for line in serve_config.splitlines(True))
    return before + BEGIN + "".join(lines) + END + after


def render(folder: Path) -> str:
    """What Kustomize makes of a folder, by whichever of its two commands there is."""
    tool = ["kubectl", "kustomize"] if shutil.which("kubectl") else ["kustomize", "build"]
    return subprocess.run([*tool, str(folder)], check=True, capture_output=True, text=True).stdout


def main() -> int:
    """Write both; the exit code for the shell."""
    BASE.write_text(embed(BASE.read_text(), SERVE_CONFIG.read_text()))
    try:
        rendered = render(DEPLOY / "kustomize/overlays/prod")
    except FileNotFoundError:
        sys.stderr.write("Install kubectl or kustomize: rayservice.yaml is not written.\n")
        return 1
    except subprocess.CalledProcessError as exc:
        sys.stderr.write(exc.stderr)
        return 1
    RENDERED.write_text(HEADER + rendered)
    return 0


if __name__ == "__main__":
    sys.exit(main())
