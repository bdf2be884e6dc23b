"""The numbers of all rounds as a table: what was asked, the median, and how far rounds differed."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One number: its name in a round, what it means, and the limit if there is one."""

    name: str
    meaning: str
    digits: int = 1
    at_least: float | None = None
    under: float | None = None

    @property
    def asked(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return "" if self.under is None else f"< {self.under:g}"

    def holds(self, value: float) -> bool:
        enough = self.at_least is None or value >= self.at_least
        return enough and (self.under is None or value < self.under)


ROWS = (
    Row("noop_rate", "empty ingress, 32 connections, requests/s", 0),
    Row("noop_p50_ms", "empty ingress, 1 connection, p50 ms", 2),
    Row("hit_rate", "cache hits, 32 connections, requests/s", 0),
    Row("hit_share", "cache hits as a share of the empty ingress", 2, at_least=0.7),
    Row("hit_p50_ms", "cache hit, 1 connection, p50 ms", 2, under=0.6),
    Row("runtime_rate", "runtime called directly, 128 series a call, series/s", 0),
    Row("runtime_single_rate", "runtime called directly, 1 series a call, series/s", 1),
    Row("unique_rate", "unique forecasts, 128 connections, forecasts/s", 0),
    Row("unique_share", "unique forecasts as a share of the runtime's rate", 2, at_least=0.6),
    Row("unique_gain", "unique forecasts against one series a call, times", 1, at_least=25),
    Row("unique_p95_ms", "unique forecasts, 128 connections, p95 ms", 0, under=400),
    Row("unique32_p95_ms", "unique forecasts, 32 connections, p95 ms", 0, under=200),
    Row("lone_extra_ms", "one connection, median ms on top of the runtime", 1, under=8),
    Row("bulk_rate", "1,000 markets in one batch, forecasts/s", 0),
    Row("bulk_share", "the batch as a share of the runtime's rate", 2, at_least=0.8),
    Row("noop2_rate", "two empty deployments, 32 connections, requests/s", 0),
    Row("fallback_rate", "open breaker, 32 connections, forecasts/s", 0),
    Row("fallback_share", "open breaker as a share of two empty deployments", 2, at_least=0.6),
    Row("fallback200_p95_ms", "open breaker, 200 requests/s open loop, p95 ms", 1, under=25),
)


def table(rounds: Sequence[dict[str, float]]) -> str:
    """A Markdown table; medians over the rounds, with the least and the most."""
    lines = ["| what | asked | median | least | most | |", "|---|---|---|---|---|---|"]
    for row in ROWS:
        values = [r[row.name] for r in rounds if row.name in r]
        if values:
            lines.append(_line(row, values))
    return "\n".join(lines)


def missed(rounds: Sequence[dict[str, float]]) -> list[str]:
    """The meanings of the rows whose median is not what was asked."""
    of = {row: [r[row.name] for r in rounds if row.name in r] for row in ROWS}
    return [row.meaning for row, v in of.items() if v and not row.holds(statistics.median(v))]


def _line(row: Row, values: list[float]) -> str:
    write: Callable[[float], str] = f"{{:,.{row.digits}f}}".format
    middle = statistics.median(values)
    verdict = "" if not row.asked else "yes" if row.holds(middle) else "**no**"
    cells = [row.meaning, row.asked, write(middle), write(min(values)), write(max(values)), verdict]
    return "| " + " | ".join(cells) + " |"
