"""The application with a breaker actor whose constructor raises as long as a file is there."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.serve import Application

from serve_app import app
from serve_app.deployments import actors
from serve_app.deployments.breaker import BreakerActor

BROKEN_WHILE = "TSFM_TEST_BREAKER_BROKEN_WHILE"  # names that file; each try adds a byte to it


class BrokenBreakerActor(BreakerActor):
    def __init__(self, settings: Mapping[str, Any]) -> None:
        file = Path(os.environ[BROKEN_WHILE])
        if file.exists():
            with file.open("a") as tries:
                tries.write(".")
            raise RuntimeError("broken")
        super().__init__(settings)


def build(args: app.AppArgs) -> Application:
    vars(actors)["BreakerActor"] = BrokenBreakerActor
    return app.build(args)
