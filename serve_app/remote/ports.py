"""The way to the Runner as both of its users see it."""

from typing import Protocol

from runner.forecast.bulk import BulkModelPort
from runner.forecast.forecaster import ModelPort


class ModelPorts(ModelPort, BulkModelPort, Protocol):
    """One item at a time, and many at once."""
