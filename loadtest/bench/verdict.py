"""From outcomes to numbers, and from numbers to pass or fail; no clock and no network."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loadtest.answers import problem_of


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request: how long it took, and what was wrong with the answer."""

    latency_ms: float
    problem: str | None = None
    cache_hit: bool = False
    fallback: bool = False


@dataclass(frozen=True, slots=True)
class Budgets:
    """What a run may cost."""

    p95_ms: float
    cycle_s: float
    fallback_fraction: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in numbers."""

    requests: int
    elapsed_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    hit_fraction: float
    fallback_fraction: float
    problems: Counter[str]

    @property
    def per_second(self) -> float:
        return self.requests / self.elapsed_s if self.elapsed_s else 0.0


def judge(
    status: int, answer: Any, latency_ms: float, horizon: int, levels: Sequence[float]
) -> Outcome:
    """The outcome of a request that was answered."""
    if status != 200:
        return Outcome(latency_ms, f"status {status}")
    if problem := problem_of(answer, horizon, levels):
        return Outcome(latency_ms, problem)
    meta = answer["meta"]
    return Outcome(latency_ms, None, bool(meta.get("cache_hit")), bool(meta.get("fallback_used")))


def summarise(outcomes: Sequence[Outcome], elapsed_s: float) -> Summary:
    """The numbers of a run; latencies are those of every request, good or bad."""
    latencies = sorted(outcome.latency_ms for outcome in outcomes)
    count = max(1, len(outcomes))
    return Summary(
        requests=len(outcomes),
        elapsed_s=elapsed_s,
        p50_ms=percentile(latencies, 50),
        p95_ms=percentile(latencies, 95),
        p99_ms=percentile(latencies, 99),
        hit_fraction=sum(outcome.cache_hit for outcome in outcomes) / count,
        fallback_fraction=sum(outcome.fallback for outcome in outcomes) / count,
        problems=Counter(outcome.problem for outcome in outcomes if outcome.problem),
    )


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: a value that was really measured; NaN of nothing.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 50)
    2.0
    """
    if not ascending:
        return math.nan
    return ascending[max(0, math.ceil(len(ascending) * percent / 100) - 1)]


def failures(summary: Summary, budgets: Budgets) -> list[str]:
    """Every promise the run broke, in words."""
    broken = []
    if summary.problems:
        worst, count = summary.problems.most_common(1)[0]
        bad = sum(summary.problems.values())
        broken.append(f"{bad} of {summary.requests} answers are bad ({count}x {worst})")
    if not summary.p95_ms <= budgets.p95_ms:
        broken.append(f"p95 {summary.p95_ms:.1f} ms is over {budgets.p95_ms:g} ms")
    if not summary.elapsed_s <= budgets.cycle_s:
        broken.append(f"the cycle took {summary.elapsed_s:.1f} s of {budgets.cycle_s:g} s")
    if summary.fallback_fraction > budgets.fallback_fraction:
        share = f"{summary.fallback_fraction:.1%} of {budgets.fallback_fraction:.1%}"
        broken.append(f"too many answers came from the fallback ({share})")
    return broken


def table(summary: Summary) -> str:
    """The numbers for people."""
    rows = {
        "requests": f"{summary.requests}",
        "elapsed": f"{summary.elapsed_s:.2f} s",
        "throughput": f"{summary.per_second:.1f} /s",
        "p50": f"{summary.p50_ms:.1f} ms",
        "p95": f"{summary.p95_ms:.1f} ms",
        "p99": f"{summary.p99_ms:.1f} ms",
        "cache hits": f"{summary.hit_fraction:.1%}",
        "fallbacks": f"{summary.fallback_fraction:.1%}",
        "bad answers": f"{sum(summary.problems.values())}",
    }
    return "\n".join(f"{name:<12}{value:>12}" for name, value in rows.items())


def numbers(summary: Summary, broken: Sequence[str]) -> dict[str, Any]:
    """The same for programs; what was not measured is null."""
    values = {
        "requests": summary.requests,
        "elapsed_s": summary.elapsed_s,
        "per_second": summary.per_second,
        "p50_ms": summary.p50_ms,
        "p95_ms": summary.p95_ms,
        "p99_ms": summary.p99_ms,
        "cache_hit_share": summary.hit_fraction,
        "fallback_share": summary.fallback_fraction,
    }
    known = {name: None if math.isnan(one) else round(one, 4) for name, one in values.items()}
    return known | {"bad_answers": dict(summary.problems), "broken": list(broken)}


def last_line(broken: Sequence[str]) -> str:
    return f"SLO_FAIL: {'; '.join(broken)}" if broken else "SLO_PASS"
