"""From what callers saw to rows of the table, and from rows to pass or fail; no clock, no network.

A forecast is admitted when it was answered with bands, whoever made them; it is shed when they are
not the model's own, or were put off until the load was over. The order of shedding is held by
shares: the share of batch items that are shed is never less than that of interactive requests, and
nobody is refused while there is no one on the baseline.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.drills.harness import Sample, percentile

INTERACTIVE, BATCH = "interactive", "batch"
OVERLOADED = "overloaded"
REFUSALS = ("status 429", "status 503")
TOLERANCE = 0.02  # of shares: a few requests at the edges of a run
_HEAD = (
    "| load | kind | offered | model | of it in the load | stale | baseline, overloaded "
    "| baseline, other | refused | with Retry-After | valid of admitted "
    "| p50 ms | p95 ms | p99 ms | max ms | other reasons |"
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one forecast; an item of a batch takes as long as its batch."""

    kind: str
    sample: Sample
    retry_after: bool = False

    @property
    def refused(self) -> bool:
        return (self.sample.problem or "").startswith(REFUSALS)


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of forecasts under one load; times are of those admitted."""

    load: str
    kind: str
    offered: int
    model: int
    stale: int
    reasons: Counter[str]  # of the baseline's answers
    refused: int
    with_retry_after: int
    problems: Counter[str]
    served: int  # by the model while the load lasted: what waits until it is over was put off
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    @property
    def admitted(self) -> int:
        return self.offered - self.refused

    @property
    def valid_share(self) -> float:
        """Of those admitted; 1 of none."""
        return 1 - self.problems.total() / self.admitted if self.admitted else 1.0

    @property
    def shed_share(self) -> float:
        """Of those offered: all that the model did not answer while the load lasted."""
        return 1 - self.served / self.offered if self.offered else 0.0


@dataclass(frozen=True, slots=True)
class Budgets:
    """What a load may cost: interactive p95, a whole batch, and the model's share without one.

    No interactive answer may take ``late_ms``: the deadline, and 50 ms for the way.
    """

    p95_ms: float
    cycle_s: float
    model_share: float = 0.99
    late_ms: float = 1550.0


def row_of(load: str, kind: str, seen: Sequence[Seen], over_s: float = math.inf) -> Row:
    """The row of one kind; the load was over at ``over_s``, on the clock of the samples."""
    ours = [one for one in seen if one.kind == kind]
    refused = [one for one in ours if one.refused]
    admitted = [one.sample for one in ours if not one.refused]
    latencies = sorted(sample.latency_ms for sample in admitted)
    p50, p95, p99, most = (percentile(latencies, percent) for percent in (50, 95, 99, 100))
    return Row(
        load,
        kind,
        offered=len(ours),
        model=sum(s.source == "model" for s in admitted),
        stale=sum(s.source == "stale" for s in admitted),
        reasons=Counter(s.reason or "?" for s in admitted if s.source == "baseline"),
        refused=len(refused),
        with_retry_after=sum(one.retry_after for one in refused),
        problems=Counter(s.problem for s in admitted if s.problem),
        served=sum(s.source == "model" and s.done_s <= over_s for s in admitted),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        max_ms=most,
    )


def rows_of(load: str, seen: Sequence[Seen], over_s: float = math.inf) -> list[Row]:
    return [row_of(load, kind, seen, over_s) for kind in (INTERACTIVE, BATCH)]


def is_sustained(rows: Sequence[Row], budgets: Budgets) -> bool:
    """Whether a load left everybody with the model's answer in time."""
    return all(
        row.model >= budgets.model_share * row.offered
        and not (row.problems or row.refused)
        and (row.kind == BATCH or row.p95_ms <= budgets.p95_ms)
        for row in rows
    )


def failures(rows: Sequence[Row], budgets: Budgets) -> list[str]:
    """Every promise that a load broke, in words; rows of one load."""
    found = [f"{row.load}, {row.kind}: {words}" for row in rows for words in _broken(row, budgets)]
    return found + [f"{rows[0].load}: {words}" for words in _out_of_order(rows)] if rows else found


def _broken(row: Row, budgets: Budgets) -> list[str]:
    found = []
    if row.problems:
        worst, count = row.problems.most_common(1)[0]
        found.append(f"{row.problems.total()} of {row.admitted} bad ({count}x {worst})")
    if row.kind == INTERACTIVE and not row.p95_ms <= budgets.p95_ms:
        found.append(f"p95 {row.p95_ms:.0f} ms is over {budgets.p95_ms:g} ms")
    if row.kind == INTERACTIVE and row.max_ms > budgets.late_ms:
        found.append(f"an answer took {row.max_ms:.0f} ms")
    if row.kind == BATCH and row.max_ms > budgets.cycle_s * 1e3:
        found.append(f"a batch took {row.max_ms / 1e3:.1f} s of {budgets.cycle_s:g} s")
    if row.with_retry_after < row.refused:
        missing = row.refused - row.with_retry_after
        found.append(f"{missing} of {row.refused} refused without Retry-After")
    return found


def _out_of_order(rows: Sequence[Row]) -> list[str]:
    by_kind = {row.kind: row for row in rows}
    interactive, batch = by_kind[INTERACTIVE], by_kind[BATCH]
    found = []
    if interactive.shed_share > batch.shed_share + TOLERANCE:
        shares = f"{interactive.shed_share:.0%} against {batch.shed_share:.0%}"
        found.append(f"interactive requests are shed before batch items ({shares})")
    if interactive.refused and not interactive.reasons[OVERLOADED]:
        found.append("requests are refused before any is given to the baseline")
    return found


def table(rows: Sequence[Row]) -> str:
    """The rows for people, as Markdown."""
    return "\n".join([_HEAD, "|---|---|" + "---:|" * 13 + "---|", *map(_line, rows)])


def _line(row: Row) -> str:
    other = Counter({r: n for r, n in row.reasons.items() if r != OVERLOADED}) + row.problems
    words = ", ".join(f"{count} {reason}" for reason, count in other.most_common())
    # a share that is not whole must never read as whole
    percent = min(row.valid_share * 100, 99.9) if row.problems else 100
    baseline = [row.reasons[OVERLOADED], row.reasons.total() - row.reasons[OVERLOADED]]
    model = [row.model, row.served, row.stale]
    counts = [row.offered, *model, *baseline, row.refused, row.with_retry_after]
    times = [f"{ms:.0f}" for ms in (row.p50_ms, row.p95_ms, row.p99_ms, row.max_ms)]
    cells = [row.load, row.kind, *counts, f"{percent:.4g} %", *times, words or "-"]
    return "| " + " | ".join(map(str, cells)) + " |"


def last_line(broken: Sequence[str]) -> str:
    return f"OVERLOAD_FAIL: {'; '.join(broken)}" if broken else "OVERLOAD_PASS"
