"""``serve run`` without Ray's dashboard and without pandas; the launcher's child process.

Neither is used here, and Ray Serve would import pandas in every process. docs/performance.md has
the savings. ``serve run`` uses the Ray cluster that is started here.

    python -m serve_app.launch.local_serve serve_config.yaml
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

LEFT_OUT = Path(__file__).with_name("left_out")
NAMESPACE = "serve"  # Serve's own commands use this one


def python_path(environment: Mapping[str, str]) -> str:
    """``PYTHONPATH`` with the folder ``left_out`` first, for all processes of Ray."""
    inherited = environment.get("PYTHONPATH")
    return os.pathsep.join([str(LEFT_OUT), *([inherited] if inherited else [])])


def main(arguments: Sequence[str]) -> None:
    """Runs until a signal stops it; ``arguments`` are those of ``serve run``."""
    os.environ["PYTHONPATH"] = python_path(os.environ)
    sys.path.insert(0, str(LEFT_OUT))
    import ray  # after the path is set
    from ray.serve.scripts import cli

    ray.init(namespace=NAMESPACE, include_dashboard=False)
    cli(["run", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
