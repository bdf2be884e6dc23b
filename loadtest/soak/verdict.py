"""From looks at the processes to a table, and from there to pass or fail; no clock, no network."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import linear_regression, median

from loadtest.bench.verdict import percentile
from loadtest.soak.callers import Tally
from loadtest.soak.watch import OURS, Look, Reading

FEWEST_LOOKS = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """What may grow. Growth under ``noise_mb`` in the whole window is not told from noise."""

    mb_per_hour: float
    noise_mb: float
    fds: int
    threads: int
    gauges: int  # tasks, kept answers, items in line


@dataclass(frozen=True, slots=True)
class Row:
    """One process over the window; starts and ends are medians of the first and last fifth."""

    name: str
    pss_mb: tuple[float, float]
    own_mb: tuple[float, float]
    mb_per_hour: float  # of its own memory
    fds: tuple[int, int]
    threads: tuple[int, int]

    @property
    def ours(self) -> bool:
        return self.name in OURS


def slope_per_hour(at_s: Sequence[float], values: Sequence[float]) -> float:
    """The least-squares slope.

    >>> slope_per_hour([0, 1800, 3600], [1.0, 2.0, 3.0])
    2.0
    """
    return linear_regression(at_s, values).slope * 3600


def rows(looks: Sequence[Look]) -> list[Row]:
    """A row for each process that was there all the time, ours first."""
    pids = set.intersection(*(set(look.readings) for look in looks)) if looks else set()
    found = [_row(looks, pid) for pid in sorted(pids)]
    return sorted(found, key=lambda row: (not row.ours, row.name))


def _row(looks: Sequence[Look], pid: int) -> Row:
    readings = [look.readings[pid] for look in looks]
    pss, own = [r.pss_mb for r in readings], [r.own_mb for r in readings]
    fds, threads = [r.fds for r in readings], [r.threads for r in readings]
    return Row(
        readings[-1].name,
        (_first(pss), _last(pss)),
        (_first(own), _last(own)),
        slope_per_hour([look.at_s for look in looks], own),
        (round(_first(fds)), round(_last(fds))),
        (round(_first(threads)), round(_last(threads))),
    )


def gauge_rows(looks: Sequence[Look]) -> dict[str, tuple[float, float]]:
    """Medians of the first and last fifth of the looks that found a gauge."""
    names = sorted({name for look in looks for name in look.gauges})
    values = {n: [look.gauges[n] for look in looks if n in look.gauges] for n in names}
    return {name: (_first(found), _last(found)) for name, found in values.items()}


def _first(values: Sequence[float]) -> float:
    return median(values[: max(1, len(values) // 5)])


def _last(values: Sequence[float]) -> float:
    return median(values[-max(1, len(values) // 5) :])


def replaced(looks: Sequence[Look]) -> list[str]:
    """Our processes that ended or came while we looked: none should in a quiet run."""
    kept = set.intersection(*(set(look.readings) for look in looks)) if looks else set()
    seen: dict[int, Reading] = {}
    for look in looks:
        seen |= look.readings
    gone = Counter(r.name for pid, r in seen.items() if pid not in kept and r.name in OURS)
    return [f"{count} {name} came or went" for name, count in gone.items()]


def failures(
    looks: Sequence[Look], tallies: Mapping[str, Tally], in_flight: int | None, limits: Limits
) -> list[str]:
    """Every promise that was broken, in words; ``in_flight`` is what was left when all had gone."""
    if len(looks) < FEWEST_LOOKS:
        return [f"only {len(looks)} looks after the warm-up: run longer"]
    found = replaced(looks)
    found += [words for row in rows(looks) if row.ours for words in _growth(row, limits)]
    found += _gauges(gauge_rows(looks), limits)
    found += [words for kind, tally in tallies.items() for words in _bad(kind, tally)]
    if in_flight != 0:
        left = "unknown" if in_flight is None else in_flight
        found.append(f"requests still under way when all had gone: {left}")
    return found


def _growth(row: Row, limits: Limits) -> list[str]:
    found = []
    if row.mb_per_hour > limits.mb_per_hour and row.own_mb[1] - row.own_mb[0] > limits.noise_mb:
        found.append(f"grows {row.mb_per_hour:.0f} MB/h, {limits.mb_per_hour:g} allowed")
    if row.fds[1] - row.fds[0] > limits.fds:
        found.append(f"open files rose from {row.fds[0]} to {row.fds[1]}")
    if row.threads[1] - row.threads[0] > limits.threads:
        found.append(f"threads rose from {row.threads[0]} to {row.threads[1]}")
    return [f"{row.name}: {words}" for words in found]


def _gauges(found: Mapping[str, tuple[float, float]], limits: Limits) -> list[str]:
    if not found:
        return ["GET /metrics told nothing"]
    return [
        f"{name} rose from {first:.0f} to {last:.0f}"
        for name, (first, last) in found.items()
        if last - first > limits.gauges
    ]


def _bad(kind: str, tally: Tally) -> list[str]:
    if not tally.valid:
        return [f"{kind}: nothing valid of {tally.requests}"]
    if tally.invalid:
        worst, count = tally.problems.most_common(1)[0]
        return [f"{kind}: {tally.invalid} of {tally.requests} bad ({count}x {worst})"]
    return []


def table(found: Sequence[Row]) -> str:
    """The processes for people, as Markdown."""
    head = "| process | PSS MB | own MB | own MB/h | open files | threads |"
    return "\n".join([head, "|---|" + "---:|" * 5, *map(_line, found)])


def gauge_table(found: Mapping[str, tuple[float, float]]) -> str:
    """What the service tells of itself, as Markdown."""
    lines = [f"| {name} | {first:.0f} | {last:.0f} |" for name, (first, last) in found.items()]
    return "\n".join(
        ["| of all replicas of a deployment | start | end |", "|---|---:|---:|", *lines]
    )


def _line(row: Row) -> str:
    memory = [f"{first:.1f} > {last:.1f}" for first, last in (row.pss_mb, row.own_mb)]
    counts = [f"{first} > {last}" for first, last in (row.fds, row.threads)]
    cells = [row.name, *memory, f"{row.mb_per_hour:+.1f}", *counts]
    return "| " + " | ".join(cells) + " |"


def traffic_table(tallies: Mapping[str, Tally]) -> str:
    """What became of the requests, as Markdown; times are of those who waited."""
    head = "| kind | requests | valid | invalid | left | p50 ms | p95 ms | p99 ms | max ms |"
    lines = [_traffic_line(kind, tally) for kind, tally in sorted(tallies.items())]
    return "\n".join([head, "|---|" + "---:|" * 8, *lines])


def _traffic_line(kind: str, tally: Tally) -> str:
    latencies = sorted(tally.latencies_ms)
    times = [f"{percentile(latencies, percent):.0f}" for percent in (50, 95, 99, 100)]
    counts = [tally.requests, tally.valid, tally.invalid, tally.left]
    return "| " + " | ".join(map(str, [kind, *counts, *times])) + " |"


def last_line(broken: Sequence[str]) -> str:
    return f"SOAK_FAIL: {'; '.join(broken)}" if broken else "SOAK_PASS"
