"""What every replica of ours does first."""

import gc

from opentelemetry.trace import Tracer
from ray import serve

from runner.config.loading import Config
from serve_app.telemetry.logs import set_up_logging
from serve_app.telemetry.tracing import configured_tracer

# Between two looks for garbage. Python's 700 are a few requests, and hardly anything of ours is a
# cycle: the looks took a fifth of the ingress's CPU, more the more answers it kept. 50,000 are no
# faster, and the cycles that refused and abandoned requests leave then pile up to 25 MB.
NEW_OBJECTS = 5_000


def set_up_replica(config: Config) -> Tracer | None:
    """Garbage collection, log lines and spans of this replica; the tracer, if spans are wanted."""
    look_for_garbage_less_often()
    replica = serve.get_replica_context()
    context = {"deployment": replica.deployment, "replica": replica.replica_tag}
    set_up_logging(config.observability.log_level, context)
    return configured_tracer(config.observability, context)


def look_for_garbage_less_often() -> None:
    """Of the youngest objects only after ``NEW_OBJECTS``; older ones as Python has it."""
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
