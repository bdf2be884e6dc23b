"""``serve run`` with a Ray of its own that has no dashboard: what the launcher starts as a child.

The dashboard of Ray is a dozen processes that nobody looks at here; the figures are in
docs/performance.md. ``serve run`` itself keeps the Ray that is already there.

    python -m serve_app.local_serve serve_config.yaml
"""

import sys
from collections.abc import Sequence

import ray
from ray.serve.scripts import cli

NAMESPACE = "serve"  # where ``serve status`` and the others look for it


def main(arguments: Sequence[str]) -> None:
    """Does not return before it is told to stop; ``arguments`` are those of ``serve run``."""
    ray.init(namespace=NAMESPACE, include_dashboard=False)
    cli(["run", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
