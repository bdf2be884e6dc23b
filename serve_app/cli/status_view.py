"""The status of the service on the terminal; fields missing in the answer are left out."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from serve_app.cli.sparkline import sparkline

_SPARK = 48
_LINES = {
    "requests": "requests",
    "fallbacks": "fallbacks",
    "p50_ms": "p50 ms",
    "p95_ms": "p95 ms",
}


def status_view(status: Mapping[str, Any]) -> Group:
    """The whole status: service, requests, queue, breakers, coverage."""
    return Group(*_parts(status))


def _parts(status: Mapping[str, Any]) -> Iterator[RenderableType]:
    up = timedelta(seconds=int(status.get("uptime_s", 0)))
    version, environment = status.get("version", "?"), status.get("environment", "?")
    yield f"TSFM Runner {version} in {environment}, up {up}"
    yield _requests(status.get("requests") or {}, status.get("window_s", 300))
    if history := status.get("history"):
        yield _history(history)
    if reasons := status.get("fallback_reasons"):
        yield _counts("fallbacks by reason", reasons)
    if queue := status.get("queue"):
        yield (
            f"in flight {queue.get('in_flight')}, "
            f"waiting for the model {_number(queue.get('waiting'), 'd')}; "
            "the baseline answers above "
            f"{queue.get('shed_above')}, refused above {queue.get('refuse_above')}"
        )
    if replicas := status.get("replicas"):
        yield _counts("replicas", replicas)
    yield _breakers(status.get("breakers") or [])
    if coverage := status.get("coverage"):
        yield _coverage(coverage)


def _requests(requests: Mapping[str, Any], window_s: float) -> str:
    share, hits = requests.get("fallback_share"), requests.get("cache_hit_share")
    return (
        f"last {window_s / 60:g} min: {requests.get('total', 0)} requests, "
        f"{_number(requests.get('rate_per_s'), '.1f')} /s, "
        f"fallback {_number(share, '.1%')}, from cache {_number(hits, '.1%')}, "
        f"p50 {_number(requests.get('p50_ms'), '.0f')} ms, "
        f"p95 {_number(requests.get('p95_ms'), '.0f')} ms"
    )


def _history(history: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for key, label in _LINES.items():
        values = [point.get(key) for point in history]
        newest = next((v for v in reversed(values) if v is not None), None)
        table.add_row(label, sparkline(values, _SPARK), _number(newest, ".0f"))
    return table


def _counts(label: str, counts: Mapping[str, Any]) -> str:
    return f"{label}: " + ", ".join(f"{name} {count}" for name, count in counts.items())


def _breakers(breakers: Sequence[Mapping[str, Any]]) -> RenderableType:
    if not breakers:
        return "no model has been called yet"
    table = Table("breaker of", "state", "next probe", box=None)
    for breaker in breakers:
        wait_s, state = breaker.get("next_probe_in_s"), str(breaker.get("state"))
        colour = "green" if state == "closed" else "yellow" if "closed" in state else "red"
        probe = f"in {wait_s:.0f} s" if wait_s else ""
        table.add_row(str(breaker.get("model")), Text(state.replace("_", " "), colour), probe)
    return table


def _coverage(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = ("coverage of", "segment", "wanted", "is", "outcomes", "mean width", "breaches")
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(
            str(row.get("source")),
            str(row.get("segment")),
            _number(row.get("target"), ".0%"),
            _number(row.get("coverage"), ".1%"),
            _number(row.get("samples"), ".0f"),
            _number(row.get("mean_width"), ".3f"),
            _number(row.get("breach_rate"), ".1%"),
        )
    return table


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
