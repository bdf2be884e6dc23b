"""From samples to a row of the table, and from rows to pass or fail; no clock and no network."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.drills.harness import Sample, breaker_path, percentile

TOLERANCE_MS = 50.0
NOTE = (
    "Swapped ids cannot be found out by anybody: both ids are known and both forecasts are sound, "
    "so a runtime that mixes them up is believed. A lone series under a foreign id is bad output."
)
_HEAD = (
    "| fault | requests | valid | model | baseline | stale | p50 ms | p95 ms | p99 ms | max ms "
    "| max inside ms | back after s | reasons | breaker |"
)


@dataclass(frozen=True, slots=True)
class Row:
    """What one fault did to the callers.

    ``max_inside_ms`` is the longest by the service's own clock, ``strikes`` how often the fault
    took effect, ``back_s`` how long after its end the model answered again (None: not while we
    waited).
    """

    name: str
    requests: int
    problems: Counter[str]
    sources: Counter[str]
    reasons: Counter[str]
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    max_inside_ms: float
    breaker: str
    strikes: int
    back_s: float | None

    @property
    def valid(self) -> int:
        return self.requests - self.problems.total()


def row_of(name: str, samples: Sequence[Sample], strikes: int, back_s: float | None) -> Row:
    """The row of a fault; latencies are those of every request, good or bad."""
    latencies = sorted(sample.latency_ms for sample in samples)
    return Row(
        name,
        len(samples),
        Counter(s.problem for s in samples if s.problem),
        Counter(s.source for s in samples if s.source),
        Counter(s.reason for s in samples if s.reason),
        percentile(latencies, 50),
        percentile(latencies, 95),
        percentile(latencies, 99),
        percentile(latencies, 100),
        max((sample.inside_ms for sample in samples), default=0.0),
        breaker_path(samples),
        strikes,
        back_s,
    )


def failures(rows: Sequence[Row], deadline_ms: float) -> list[str]:
    """Every promise that was broken, in words; a fault that never took effect proved nothing."""
    return [words for row in rows for words in _failures(row, deadline_ms + TOLERANCE_MS)]


def _failures(row: Row, limit_ms: float) -> list[str]:
    found = []
    if row.problems:
        worst, count = row.problems.most_common(1)[0]
        found.append(f"{row.requests - row.valid} of {row.requests} bad ({count}x {worst})")
    if not row.max_ms <= limit_ms:
        found.append(f"max {row.max_ms:.0f} ms is over {limit_ms:.0f} ms")
    if not row.strikes:
        found.append("it never took effect")
    if row.back_s is None:
        found.append("the model did not come back")
    return [f"{row.name}: {words}" for words in found]


def table(rows: Sequence[Row]) -> str:
    """The rows for people, as Markdown."""
    rule = "|---|" + "---:|" * 11 + "---|---|"
    return "\n".join([_HEAD, rule, *map(_line, rows), "", NOTE])


def _line(row: Row) -> str:
    share = row.valid / row.requests if row.requests else 0.0
    sources = [row.sources[name] for name in ("model", "baseline", "stale")]
    times = [f"{ms:.0f}" for ms in _times(row)]
    back = "-" if row.back_s is None else f"{row.back_s:.1f}"
    reasons = ", ".join(f"{count} {reason}" for reason, count in row.reasons.most_common())
    # a share that is not whole must never read as whole
    percent = "100 %" if row.valid == row.requests else f"{min(share * 100, 99.9):.1f} %"
    cells = [row.name, row.requests, percent, *sources, *times, back, reasons or "-", row.breaker]
    return "| " + " | ".join(map(str, cells)) + " |"


def _times(row: Row) -> tuple[float, ...]:
    return row.p50_ms, row.p95_ms, row.p99_ms, row.max_ms, row.max_inside_ms


def last_line(broken: Sequence[str]) -> str:
    return f"FAULTS_FAIL: {'; '.join(broken)}" if broken else "FAULTS_PASS"
