"""Set-up of every replica: garbage collection, logs, traces."""

import gc

from opentelemetry.trace import Tracer
from ray import serve

from runner.config.loading import Config
from serve_app.telemetry.logs import set_up_logging
from serve_app.telemetry.tracing import configured_tracer

# New objects between two garbage collections. Python's 700 are a few requests, and few of our
# objects form cycles: collections took a fifth of the ingress's CPU, more with more cached answers.
# 50,000 is no faster, and the cycles left by refused and abandoned requests then grow to 25 MB.
NEW_OBJECTS = 5_000


def set_up_replica(config: Config) -> Tracer | None:
    """Sets up garbage collection, logs and traces; returns the tracer if traces are configured."""
    set_up_garbage_collection()
    replica = serve.get_replica_context()
    context = {"deployment": replica.deployment, "replica": replica.replica_tag}
    set_up_logging(config.observability.log_level, context)
    return configured_tracer(config.observability, context)


def set_up_garbage_collection() -> None:
    """Collects the youngest generation after ``NEW_OBJECTS``; older ones as Python's default.

    Objects of the start, mostly modules, live until the end: a full collection that walks them
    holds the event loop for 55 ms.
    """
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
    gc.collect()
    gc.freeze()
