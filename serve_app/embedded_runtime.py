"""The second application of the local configuration: a runtime of our own.

With it a fresh machine needs no daemon; the runner calls it over HTTP exactly as it would tollama.

No ``from __future__ import annotations`` here: Serve would see the builder's annotation as a
string and hand over a bare, unvalidated dict.
"""

import time

from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application
from starlette.applications import Starlette

from serve_app.embedded.app import build_runtime_app
from serve_app.embedded.model import EmbeddedModel, require_extra


class RuntimeArgs(BaseModel):
    """What ``args`` in the Serve config may say: nothing yet, and nothing by mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RuntimeReplica:
    """Loads the model once per replica and serves it under tollama's routes."""

    def __init__(self) -> None:
        self._model = EmbeddedModel()

    def __serve_build_asgi_app__(self) -> Starlette:
        """Serve runs this on the replica, after the constructor."""
        return build_runtime_app(self._model, time.perf_counter)


EmbeddedRuntime = serve.deployment(name="EmbeddedRuntime")(serve.ingress()(RuntimeReplica))


def build(args: RuntimeArgs) -> Application:
    """The embedded runtime's application.

    Raises:
        ConfigError: torch or the model's package is not installed.
    """
    require_extra()
    return EmbeddedRuntime.bind()
