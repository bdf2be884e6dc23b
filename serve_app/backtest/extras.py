"""Libraries of optional extras: there, or one sentence that says what to install."""

import importlib
from collections.abc import Sequence

from runner.errors import ConfigError


def need(modules: Sequence[str], extra: str, purpose: str) -> None:
    """Makes sure that the libraries of an optional extra are there.

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
