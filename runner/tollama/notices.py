"""tollama's warnings, which are sentences, as stable codes; none of their text goes further.

A warning that names a series (``series='s3'``, or ``series 's3': ...``) is of that series, others
are of all series of the call. The sentences are those of tollama 0.1.0.
"""

import re
from collections import defaultdict
from enum import StrEnum
from typing import Any

# The most warnings of an answer, and characters of one, that are looked at: 10 ms at worst, while
# nothing else of the replica runs. A call of 128 series with four covariates each has 512.
MAX_WARNINGS = 512
MAX_CHARACTERS = 400


class Notice(StrEnum):
    """What a runtime says about its own answer; in ``meta.warnings``."""

    COVARIATES_IGNORED = "runtime_ignored_covariates"
    COVARIATES_FILLED = "runtime_filled_covariates"
    SERIES_CHANGED = "runtime_changed_series"  # cut, padded or filled
    VALUES_REPLACED = "runtime_replaced_values"  # of the forecast, which were not finite
    LEVELS_APPROXIMATED = "runtime_approximated_levels"
    OTHER = "runtime_warning"


_PATTERNS = (
    (
        r"[Ii]gnor(?:ing|es) (?:unsupported |categorical |future |static )?covariate",
        "COVARIATES_IGNORED",
    ),
    (r"covariates fallback: dropped", "COVARIATES_IGNORED"),
    (r"missing (?:past |known-future )?covariate|missing historical values", "COVARIATES_FILLED"),
    (r"truncated to last|padded series|imputed|duplicate timestamp|edge missing", "SERIES_CHANGED"),
    (r"non-finite forecast values", "VALUES_REPLACED"),
    (r"did not expose quantile|quantiles are omitted|calibrated quantile", "LEVELS_APPROXIMATED"),
)
_KINDS = [(re.compile(pattern), Notice[name]) for pattern, name in _PATTERNS]
_SERIES = re.compile(r"\bseries[= ]['\"]([\w-]{1,40})['\"]")
_NAMES = re.compile(r"\bcovariates?=(.+)$")
_QUOTED = re.compile(r"'([^']+)'|\"([^\"]+)\"")


class Notices:
    """The notices of one answer, by series."""

    def __init__(self, warnings: Any) -> None:
        """``warnings`` is the field of the answer, whatever it holds."""
        self._of: defaultdict[str | None, dict[str, None]] = defaultdict(dict)
        self._ignored: defaultdict[str | None, set[str]] = defaultdict(set)
        for text in warnings[:MAX_WARNINGS] if isinstance(warnings, list) else ():
            self._add(str(text)[:MAX_CHARACTERS])

    def of(self, series: str) -> tuple[str, ...]:
        """The codes for a series, each once."""
        return tuple(self._of.get(None, {}) | self._of.get(series, {})) if self._of else ()

    def ignored(self, series: str) -> tuple[str, ...]:
        """The names of its covariates that were ignored, sorted."""
        return tuple(sorted(self._ignored[None] | self._ignored[series])) if self._ignored else ()

    def _add(self, text: str) -> None:
        named = _SERIES.search(text)
        series = named[1] if named else None
        notice = next((kind for found, kind in _KINDS if found.search(text)), Notice.OTHER)
        self._of[series][notice.value] = None
        if notice is Notice.COVARIATES_IGNORED and (names := _NAMES.search(text)):
            self._ignored[series] |= {a or b for a, b in _QUOTED.findall(names[1])}
