"""``serve run`` with less around it: what the launcher starts as a child.

It leaves out two things that nobody looks at here: Ray's dashboard, and pandas, which Ray Serve
would load in every process. What that saves is in docs/performance.md. ``serve run`` itself then
takes the Ray that is there.

    python -m serve_app.launch.local_serve serve_config.yaml
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

LEFT_OUT = Path(__file__).with_name("left_out")
NAMESPACE = "serve"  # where Serve's own commands look for it


def python_path(environment: Mapping[str, str]) -> str:
    """``PYTHONPATH`` with what is left out in front, for us and for all of Ray's processes."""
    inherited = environment.get("PYTHONPATH")
    return os.pathsep.join([str(LEFT_OUT), *([inherited] if inherited else [])])


def main(arguments: Sequence[str]) -> None:
    """Does not return before it is told to stop; ``arguments`` are those of ``serve run``."""
    os.environ["PYTHONPATH"] = python_path(os.environ)
    sys.path.insert(0, str(LEFT_OUT))
    import ray  # only now, with the path as it shall be
    from ray.serve.scripts import cli

    ray.init(namespace=NAMESPACE, include_dashboard=False)
    cli(["run", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
