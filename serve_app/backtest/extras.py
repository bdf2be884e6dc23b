"""Checks that libraries of optional extras are installed."""

import importlib
from collections.abc import Sequence

from runner.errors import ConfigError


def need(modules: Sequence[str], extra: str, purpose: str) -> None:
    """Checks that the libraries of an optional extra are installed.

    Raises:
        ConfigError: one of them is not installed.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as exc:
            raise ConfigError(
                f"{purpose} needs {module}, which is not installed: "
                f"pip install '.[{extra}]' in the folder of TSFM Runner"
            ) from exc
