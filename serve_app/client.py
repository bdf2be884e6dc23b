"""The earlier import path of the client, which is a package of its own: ``tsfm_client``."""

from runner.types import BreakerCommand as BreakerCommand
from tsfm_client import *  # noqa: F403 - all its names
