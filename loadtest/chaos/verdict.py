"""From attempts to a row of the table, and from rows to pass or fail; no clock and no network."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.drills.harness import OF_THE_PROXY, TOLERANCE_MS, Sample, percentile

_HEAD = (
    "| blow | requests | valid at once | lost | recovered by one retry | from the model "
    "| p99 ms | max ms | max inside ms | hurt for s | replaced after s | reasons |"
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request, and its one retry where the first try had no answer of the service."""

    first: Sample
    retry: Sample | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What one blow did to the callers.

    ``max_inside_ms`` is the longest by the service's own clock. ``hurt_s`` is the time from the
    blow to the last answer that was not the model's at once, ``replaced_s`` until as many processes
    lived as before (None: not while we waited).
    """

    name: str
    carries: bool
    requests: int
    valid: int
    lost: int
    recovered: int
    problems: Counter[str]
    from_model: int
    p99_ms: float
    max_ms: float
    max_inside_ms: float
    hurt_s: float
    replaced_s: float | None
    reasons: Counter[str]
    retry_problems: Counter[str]


def is_lost(sample: Sample) -> bool:
    """No answer of ours: the connection died or hung, or the proxy spoke for a dead replica."""
    problem = sample.problem or ""
    return sample.lost or problem == "TimeoutError" or problem.endswith(OF_THE_PROXY)


def is_away(sample: Sample) -> bool:
    """The proxy is gone or has no routes yet: who asks again at once meets the same."""
    return sample.lost or (sample.problem or "").endswith(OF_THE_PROXY)


def row_of(
    name: str,
    attempts: Sequence[Attempt],
    blow_s: float,
    replaced_s: float | None,
    *,
    carries: bool,
) -> Row:
    """The row of a blow at ``blow_s``; latencies are those of first tries that were answered."""
    firsts = [attempt.first for attempt in attempts]
    lost = [attempt for attempt in attempts if is_lost(attempt.first)]
    latencies = sorted(sample.latency_ms for sample in firsts if not is_lost(sample))
    return Row(
        name=name,
        carries=carries,
        requests=len(attempts),
        valid=sum(sample.problem is None for sample in firsts),
        lost=len(lost),
        recovered=sum(a.retry is not None and a.retry.problem is None for a in lost),
        problems=Counter(s.problem for s in firsts if s.problem),
        from_model=sum(sample.source == "model" for sample in firsts),
        p99_ms=percentile(latencies, 99),
        max_ms=percentile(latencies, 100),
        max_inside_ms=max((sample.inside_ms for sample in firsts), default=0.0),
        hurt_s=max((_end(a) - blow_s for a in attempts if a.first.source != "model"), default=0.0),
        replaced_s=replaced_s,
        reasons=Counter(s.reason for s in firsts if s.reason),
        retry_problems=Counter(a.retry.problem for a in lost if a.retry and a.retry.problem),
    )


def _end(attempt: Attempt) -> float:
    return (attempt.retry or attempt.first).done_s


def failures(rows: Sequence[Row], deadline_ms: float) -> list[str]:
    """Every promise that was broken, in words."""
    return [f"{row.name}: {words}" for row in rows for words in _failures(row, deadline_ms)]


def _failures(row: Row, deadline_ms: float) -> list[str]:
    found = []
    if bad := row.requests - row.valid - row.lost:
        found.append(f"{bad} bad answers ({_words(row.problems)})")
    if row.lost and not row.carries:
        found.append(f"{row.lost} lost ({_words(row.problems)})")
    if row.recovered < row.lost:
        missing, why = row.lost - row.recovered, _words(row.retry_problems)
        found.append(f"{missing} of {row.lost} lost ones not recovered ({why})")
    if row.max_ms > deadline_ms + TOLERANCE_MS and not row.carries:  # else its clients gave up
        found.append(f"max {row.max_ms:.0f} ms is over {deadline_ms + TOLERANCE_MS:.0f} ms")
    if row.replaced_s is None:
        found.append("not replaced while we waited")
    return found


def table(rows: Sequence[Row]) -> str:
    """The rows for people, as Markdown."""
    return "\n".join([_HEAD, "|---|" + "---:|" * 10 + "---|", *map(_line, rows)])


def _line(row: Row) -> str:
    counts = [row.requests, row.valid, row.lost, row.recovered, row.from_model]
    times = [f"{ms:.0f}" for ms in (row.p99_ms, row.max_ms, row.max_inside_ms)]
    times.append(f"{max(0.0, row.hurt_s):.1f}")
    replaced = "-" if row.replaced_s is None else f"{row.replaced_s:.1f}"
    cells = [row.name, *counts, *times, replaced, _words(row.reasons) or "-"]
    return "| " + " | ".join(map(str, cells)) + " |"


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def last_line(broken: Sequence[str]) -> str:
    return f"CHAOS_FAIL: {'; '.join(broken)}" if broken else "CHAOS_PASS"
