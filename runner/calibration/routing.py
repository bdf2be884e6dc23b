"""Which of model and baseline deserves to answer in a segment, by what is known of the model.

Evidence about the coverage of a model counts in all segments, evidence about its skill in its own.
While the forecasts of a segment do not decide, it follows all forecasts together, unless its
interval says that it is different from them.
"""

from collections.abc import Mapping
from enum import StrEnum

from runner.calibration.miscoverage import CoverageTest
from runner.calibration.skill import EVERYTHING, LEAST_FORECASTS, Paired, Verdict
from runner.config.sections import Pin

Known = Mapping[tuple[str, str], Paired]  # by source and segment


class RoutedBy(StrEnum):
    """Why the baseline answers in place of a model that could."""

    PIN = "pin"  # by the configuration
    COVERAGE = "coverage"  # of the model's calibrated bands, in all segments
    SKILL = "skill"  # the model loses in this segment
    ALL = "all"  # it loses over all segments, and this one does not say that it is different


class Advice(StrEnum):
    """What to do with a model, by its verdicts."""

    PROMOTE = "promote"  # better over all forecasts, and worse in no segment
    HOLD = "hold"  # not known enough, or it depends on the segment
    DROP = "drop"  # worse over all forecasts, and better in no segment


def pin_of(pins: Mapping[str, Pin], segment: str) -> Pin | None:
    """What the configuration says of a segment; a pin of all holds where it has no own one."""
    return pins.get(segment) or pins.get(EVERYTHING)


def routed_by(
    known: Known, tests: Mapping[str, CoverageTest], model: str, segment: str
) -> RoutedBy | None:
    """The evidence by which the baseline answers there; None: the model answers."""
    test, own = tests.get(model), known.get((model, segment), Paired())
    if test is not None and test.miscovers:
        return RoutedBy.COVERAGE
    if own.routed:
        return RoutedBy.SKILL
    return RoutedBy.ALL if _follows_all(own, known.get((model, EVERYTHING), Paired())) else None


def _follows_all(own: Paired, every: Paired) -> bool:
    if not every.routed:
        return False
    skill, of_all = own.skill(), every.skill().value
    if skill.low is None or skill.high is None or of_all is None:
        return bool(own.sums[0] < LEAST_FORECASTS)
    return skill.low <= of_all <= skill.high


def advice(known: Known, model: str) -> Advice:
    """What the scored forecasts of a model say about it."""
    verdicts = {where: one.skill().verdict for where, one in known.items() if where[0] == model}
    of_all = verdicts.get((model, EVERYTHING), Verdict.UNDECIDED)
    if of_all is Verdict.BETTER and Verdict.WORSE not in verdicts.values():
        return Advice.PROMOTE
    if of_all is Verdict.WORSE and Verdict.BETTER not in verdicts.values():
        return Advice.DROP
    return Advice.HOLD
