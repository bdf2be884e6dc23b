"""Loads the initial calibration: the fitted state, or the state that was learned before a restart.

A file that cannot be used is named in one warning, and the service runs without it.
"""

import logging
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TypeVar

from runner.calibration.learned_file import load_learned
from runner.calibration.online_calibrator import Learned
from runner.calibration.state import ConformalState, load_state
from runner.config.conformal import ConformalSection
from runner.errors import ConfigError

T = TypeVar("T")
logger = logging.getLogger(__name__)


def fitted_state(settings: ConformalSection, sources: Collection[str]) -> ConformalState | None:
    """The configured conformal state; None, after a warning, if its file cannot be used."""
    file = settings.state_file
    if file is None:
        return None
    load = partial(load_state, file, settings.target_coverage, sources)
    return _usable(load, "answers leave uncalibrated")


def begin(settings: ConformalSection, sources: Collection[str], began_from: str | None) -> Learned:
    """The state learned before a restart, else the fitted state, else an empty one.

    Args:
        settings: names both files.
        sources: names of all sources of answers.
        began_from: digest of the current state file.
    """
    file, target_coverage = settings.learned_file, settings.target_coverage
    if file is not None and _is_there(file):
        load = partial(_of_this_fit, file, target_coverage, sources, began_from)
        known = _usable(load, "learning starts over")
        if known is not None:
            return known
    fitted = fitted_state(settings, sources)
    return Learned(fitted or ConformalState(target_coverage), {})


def _of_this_fit(
    file: Path, target_coverage: float, sources: Collection[str], began_from: str | None
) -> Learned:
    known = load_learned(file, target_coverage, sources, began_from)
    if known is None:
        raise ConfigError(f"{file} is from before the present state_file")
    return known


def _usable(load: Callable[[], T], otherwise: str) -> T | None:
    """The content of a file, or None after one warning."""
    try:
        return load()
    except ConfigError as exc:
        logger.warning("%s: %s", otherwise, exc)
    except Exception:  # no fault of a file may stop the service from answering
        logger.warning(otherwise, exc_info=True)
    return None


def _is_there(file: Path) -> bool:
    """False only if there is no such file; a file that cannot be read must be reported."""
    try:
        file.stat()
    except FileNotFoundError:
        return False
    except (OSError, ValueError):  # ValueError: a path that no file can have
        return True
    return True
