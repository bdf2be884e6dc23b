"""From what was seen around an update to a row of the table, and to pass or fail; no clock."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from loadtest.bench.verdict import percentile
from loadtest.samples import Sample

_HEAD = (
    "| update | requests | failed | model | baseline | stale | p95 ms | max ms | took s "
    "| hits before, least | series/s before, mean, most | forced breaker | outcomes learned "
    "| version |"
)
RESET, CARRIED = "reset", "carried"
OPEN = "forced_open"
LEAST_HITS = 0.5  # of those before, in any ten seconds: cold everywhere at once would be none


@dataclass(frozen=True, slots=True)
class Look:
    """One moment: series that the runtime has computed so far, outcomes behind calibration."""

    at_s: float
    series: int
    outcomes: int | None  # None: no replica told


@dataclass(frozen=True, slots=True)
class Row:
    """What one update did; rates are those of the runtime, in series a second.

    ``expected`` is what must become of a breaker that was forced open before. ``hits_least`` is the
    share of kept answers in the coldest ten seconds.
    """

    name: str
    expected: str
    samples: Sequence[Sample]
    took_s: float
    hits_before: float
    hits_least: float
    rate_before: float
    rate_most: float
    rate_mean: float
    breaker: str
    outcomes: tuple[int, int]
    version: str


def row_of(
    name: str,
    expected: str,
    samples: Sequence[Sample],
    looks: Sequence[Look],
    began_s: float,
    took_s: float,
    after: tuple[str, str],
) -> Row:
    """The row of an update that began at ``began_s``.

    ``after`` it: the state of the breaker that was forced open before, and the service's version.
    """
    end_s = began_s + took_s
    quiet = [look for look in looks if look.at_s <= began_s]
    busy = [look for look in looks if began_s <= look.at_s <= end_s]
    before = _rate(quiet)
    told = [look.outcomes for look in looks if look.outcomes is not None]
    at_start = [look.outcomes for look in quiet if look.outcomes is not None]
    windows = _windows([s for s in samples if s.sent_s >= began_s])
    return Row(
        name=name,
        expected=expected,
        samples=samples,
        took_s=took_s,
        hits_before=_hits([s for s in samples if s.sent_s < began_s]),
        hits_least=min(map(_hits, windows), default=0.0),
        rate_before=before,
        rate_most=max((_rate(pair) for pair in pairwise(busy)), default=0.0),
        rate_mean=_rate(busy),
        breaker=CARRIED if after[0] == OPEN else RESET,
        outcomes=(at_start[-1] if at_start else 0, told[-1] if told else 0),
        version=after[1],
    )


def _made(looks: Sequence[Look]) -> int:
    return looks[-1].series - looks[0].series if looks else 0


def _rate(looks: Sequence[Look]) -> float:
    return _made(looks) / (looks[-1].at_s - looks[0].at_s) if len(looks) > 1 else 0.0


def _hits(samples: Sequence[Sample]) -> float:
    return sum(sample.cached for sample in samples) / len(samples) if samples else 0.0


def _windows(samples: Sequence[Sample], seconds: float = 10.0) -> list[list[Sample]]:
    """The samples in stretches of some seconds; the last one, which is not whole, left out."""
    if not samples:
        return []
    first = min(sample.sent_s for sample in samples)
    groups: dict[int, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(int((sample.sent_s - first) / seconds), []).append(sample)
    return [groups[at] for at in sorted(groups)[:-1]]


def failures(rows: Sequence[Row]) -> list[str]:
    """Every promise that was broken, in words."""
    return [f"{row.name}: {words}" for row in rows for words in _failures(row)]


def _failures(row: Row) -> list[str]:
    found = []
    if problems := Counter(sample.problem for sample in row.samples if sample.problem):
        words = ", ".join(f"{count} {problem}" for problem, count in problems.most_common())
        found.append(f"{sum(problems.values())} failed ({words})")
    if row.hits_least < LEAST_HITS * row.hits_before:
        cold, before = f"{row.hits_least:.0%}", f"{row.hits_before:.0%}"
        found.append(f"caches went cold: {cold} of the answers were kept ones, {before} before")
    if row.breaker != row.expected:
        found.append(f"the breaker was {row.breaker}, not {row.expected}")
    if row.outcomes[1] < row.outcomes[0]:
        found.append(f"calibration fell from {row.outcomes[0]} outcomes to {row.outcomes[1]}")
    return found


def table(rows: Sequence[Row]) -> str:
    """The rows for people, as Markdown."""
    return "\n".join([_HEAD, "|---|" + "---:|" * 13, *map(_line, rows)])


def _line(row: Row) -> str:
    sources = Counter(sample.source for sample in row.samples)
    latencies = sorted(sample.latency_ms for sample in row.samples)
    cells = [
        row.name,
        len(row.samples),
        sum(sample.problem is not None for sample in row.samples),
        *(sources[name] for name in ("model", "baseline", "stale")),
        *(f"{percentile(latencies, percent):.0f}" for percent in (95, 100)),
        f"{row.took_s:.0f}",
        f"{row.hits_before:.0%}, {row.hits_least:.0%}",
        f"{row.rate_before:.1f}, {row.rate_mean:.1f}, {row.rate_most:.1f}",
        row.breaker,
        f"{row.outcomes[0]} > {row.outcomes[1]}",
        row.version,
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def last_line(broken: Sequence[str]) -> str:
    return f"UPDATES_FAIL: {'; '.join(broken)}" if broken else "UPDATES_PASS"
