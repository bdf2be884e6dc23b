"""Where calibration begins: what was fitted, and what an earlier life has learned since.

A file that cannot be used is named in a warning, and the service runs with what is left.
"""

import logging
from collections.abc import Collection
from pathlib import Path

from runner.conformal_section import ConformalSection
from runner.conformal_state import ConformalState, load_state
from runner.errors import ConfigError
from runner.learned_file import load_learned
from runner.learner import Learned

logger = logging.getLogger(__name__)


def fitted_state(settings: ConformalSection, sources: Collection[str]) -> ConformalState | None:
    """The configured conformal state; with an unusable one the service runs, and says so."""
    if settings.state_file is None:
        return None
    try:
        return load_state(settings.state_file, settings.target_coverage, sources)
    except ConfigError as exc:
        logger.warning("answers leave uncalibrated: %s", exc)
        return None


def begin(settings: ConformalSection, sources: Collection[str], began_from: str | None) -> Learned:
    """What an earlier life has learned, else what was fitted, else nothing.

    Args:
        settings: names both files.
        sources: names of every source that can answer here.
        began_from: digest of the state file of now.
    """
    file, target_coverage = settings.learned_file, settings.target_coverage
    if file is not None and _is_there(file):
        try:
            known = load_learned(file, target_coverage, sources, began_from)
        except ConfigError as exc:
            logger.warning("learning starts over: %s", exc)
        else:
            if known is not None:
                return known
            logger.warning("learning starts over: %s is from before the present state_file", file)
    fitted = fitted_state(settings, sources)
    return Learned(fitted or ConformalState(target_coverage), {})


def _is_there(file: Path) -> bool:
    """False only where there is no such file; what cannot be looked at has to be named."""
    try:
        file.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True
