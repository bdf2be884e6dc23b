"""From what was seen while the load was stepped to a table and to pass or fail; no clock."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.bench.verdict import percentile
from loadtest.samples import Sample

BEFORE, STEP, WAY = "before", "step, not scaled yet", "step, scaling out"
OUT, LOW = "step, scaled out", "low again"
_HEAD = (
    "| phase | Runners | callers | s | answers/s | from the model | p50 ms | p95 ms "
    "| series a call | runtime busy |"
)


@dataclass(frozen=True, slots=True)
class Phase:
    """What happened between two moments: ``busy_s`` is the time the runtime computed."""

    name: str
    callers: int
    runners: str
    seconds: float
    samples: Sequence[Sample]
    sizes: Sequence[int]
    busy_s: float

    @property
    def per_second(self) -> float:
        return len(self.samples) / self.seconds if self.seconds else 0.0

    @property
    def by_model(self) -> int:
        """How many answers were the model's; the baseline answers at any load."""
        return sum(sample.source == "model" for sample in self.samples)

    @property
    def model_per_second(self) -> float:
        return self.by_model / self.seconds if self.seconds else 0.0

    @property
    def batch(self) -> float:
        """Mean series in a call."""
        return sum(self.sizes) / len(self.sizes) if self.sizes else 0.0


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds from the step until replicas ran; None where they never did."""

    first_s: float | None = None
    all_s: float | None = None
    back_s: float | None = None


def runners_for(callers: int, target: float, most: int) -> int:
    """How many Runners a number of waiting callers should lead to.

    >>> runners_for(120, 40, 4), runners_for(8, 40, 4), runners_for(900, 40, 4)
    (3, 1, 4)
    """
    return min(most, max(1, -(-callers // int(target))))


def share_of_best(target: float, ms_per_call: float, ms_per_series: float) -> float:
    """What is left of a runtime's best rate when each Runner's calls carry ``target`` series.

    >>> share_of_best(200, 37, 0.9)
    0.829...
    """
    return target / (target + ms_per_call / ms_per_series)


def failures(phases: Sequence[Phase], times: Times, least_share: float) -> list[str]:
    """Every promise that was broken, in words."""
    found = [words for phase in phases for words in _bad(phase)]
    for what, took_s in (("out", times.all_s), ("in again", times.back_s)):
        if took_s is None:
            found.append(f"the Runner was not scaled {what} while we waited")
    rates = {phase.name: phase.model_per_second for phase in phases}
    before, after = rates.get(STEP, 0.0), rates.get(OUT, 0.0)
    if after < least_share * before:
        found.append(f"the model answered {before:.0f} a second and then {after:.0f}")
    return found


def _bad(phase: Phase) -> list[str]:
    problems = Counter(sample.problem for sample in phase.samples if sample.problem)
    words = ", ".join(f"{count} {problem}" for problem, count in problems.most_common())
    return [f"{phase.name}: bad answers ({words})"] if problems else []


def table(phases: Sequence[Phase]) -> str:
    """The phases for people, as Markdown."""
    return "\n".join([_HEAD, "|---|---|" + "---:|" * 8, *map(_line, phases)])


def _line(phase: Phase) -> str:
    latencies = sorted(sample.latency_ms for sample in phase.samples)
    cells = [
        phase.name,
        phase.runners,
        phase.callers,
        f"{phase.seconds:.0f}",
        f"{phase.per_second:.0f}",
        f"{phase.by_model / max(1, len(phase.samples)):.1%}",
        *(f"{percentile(latencies, percent):.0f}" for percent in (50, 95)),
        f"{phase.batch:.1f}",
        f"{phase.busy_s / phase.seconds:.0%}" if phase.seconds else "-",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def times_line(times: Times) -> str:
    words = ("the first new Runner after", "all of them after", "scaled in after")
    seconds = (times.first_s, times.all_s, times.back_s)
    told = ["never" if s is None else f"{s:.0f} s" for s in seconds]
    return ", ".join(f"{word} {took}" for word, took in zip(words, told, strict=True))


def last_line(broken: Sequence[str]) -> str:
    return f"AUTOSCALE_FAIL: {'; '.join(broken)}" if broken else "AUTOSCALE_PASS"
