"""Where calibration begins: what was fitted, and what an earlier life has learned since.

A file that cannot be used, for whatever reason, is named in one warning, and the service runs with
what is left.
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
    """The configured conformal state; with an unusable one the service runs, and says so."""
    file = settings.state_file
    if file is None:
        return None
    load = partial(load_state, file, settings.target_coverage, sources)
    return _usable(load, "answers leave uncalibrated")


def begin(settings: ConformalSection, sources: Collection[str], began_from: str | None) -> Learned:
    """What an earlier life has learned, else what was fitted, else nothing.

    Args:
        settings: names both files.
        sources: names of every source that can answer here.
        began_from: digest of the state file of now.
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
    """What a file holds, or None after one warning."""
    try:
        return load()
    except ConfigError as exc:
        logger.warning("%s: %s", otherwise, exc)
    except Exception:  # nothing about a file may keep the service from answering
        logger.warning(otherwise, exc_info=True)
    return None


def _is_there(file: Path) -> bool:
    """False only where there is no such file; what cannot be looked at has to be named."""
    try:
        file.stat()
    except FileNotFoundError:
        return False
    except (OSError, ValueError):  # ValueError: a path that no file can have
        return True
    return True
