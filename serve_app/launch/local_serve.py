"""``serve run`` on a Ray cluster that is started here, without Ray's unused dashboard.

The launcher's child process: ``python -m serve_app.launch.local_serve serve_config.yaml``.
"""

import signal
import sys

import ray
from ray.serve.scripts import cli

if __name__ == "__main__":
    ray.init(namespace="serve", include_dashboard=False)  # Serve's own commands use this namespace
    # Ray's own handler writes the stack of all threads at each clean stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    cli(["run", *sys.argv[1:]])
