"""Forecasts and the status of the service on the terminal: charts, tables and lines of blocks."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tsfm_client import Forecast

CHART_POINTS = 72  # past points in the chart
_CHART_HEIGHT = 16
_SPARK = 24  # width of a line of blocks, for one market of several
_HISTORY_SPARK = 48
_BLOCKS = "▁▂▃▄▅▆▇█"
_HISTORY = ("requests", "fallbacks", "p50_ms", "p95_ms")
Values = Sequence[float | None]


def show_one(console: Console, forecast: Forecast, past: Values) -> None:
    """One market: its source, a chart (on a terminal) and a table of all steps."""
    meta = forecast.meta
    age = f", {meta.cache_age_s:.0f} s old" if meta.cache_age_s is not None else ""
    warnings = f"; {', '.join(meta.warnings)}" if meta.warnings else ""
    console.print(
        f"{forecast.market_id}, last value {_last(past)}, from {_source(forecast)}{age} "
        f"in {meta.latency_ms:.0f} ms{warnings}"
    )
    if console.is_terminal:
        console.print(chart(forecast, past, console.width, colour=not console.no_color))
    else:
        console.print(f"past {sparkline(past[-CHART_POINTS:], CHART_POINTS)}")
    table = Table("step", "time (UTC)", box=None)
    for level in forecast.levels:
        table.add_column(f"{level:g}", justify="right")
    for i, moment in enumerate(forecast.times):
        row = (f"{value:.4f}" for value in forecast.paths[i])
        table.add_row(str(i + 1), f"{moment:%Y-%m-%d %H:%M}", *row)
    console.print(table)
    last = forecast.conformal_last_step
    if last is not None and last.target_coverage is not None:
        console.print(
            f"calibrated at the last step: {last.q10} to {last.q90}, for a coverage of "
            f"{last.target_coverage:.0%} (segment {last.segment}, {last.sample_size} outcomes)"
        )


def show_many(console: Console, answered: Sequence[tuple[Forecast, Values]]) -> None:
    """A row for each market: its past, and the band at the last step."""
    table = Table("market", "past", "last", box=None)
    for level in answered[0][0].levels:
        table.add_column(f"{level:g}", justify="right")
    table.add_column("from")
    for forecast, past in answered:
        row = (f"{value:.3f}" for value in forecast.paths[-1])
        spark = sparkline(past[-CHART_POINTS:], _SPARK)
        table.add_row(forecast.market_id, spark, _last(past), *row, _source(forecast))
    console.print(table)
    widened = sum("interval_widened" in forecast.meta.warnings for forecast, _ in answered)
    if widened:
        console.print(
            f"{widened} of {len(answered)} forecasts have steps that were widened to the least "
            "width; a request (JSON) with bands.min_interval_ticks or a smaller "
            "bands.min_interval_width gets narrower ones"
        )


def chart(forecast: Forecast, past: Values, width: int, *, colour: bool) -> Any:
    """The past up to step 0 and the bands after it, as text that fits the width of a terminal."""
    from plotext import figure

    figure.clear()
    figure.theme("simple" if colour else "colorless")
    figure.plot_size(width, _CHART_HEIGHT)
    newest = past[-CHART_POINTS:]
    known = [(i + 1 - len(newest), v) for i, v in enumerate(newest) if v is not None]
    steps = list(range(1, 1 + len(forecast.paths)))
    lines = [([i for i, _ in known], [v for _, v in known])]
    lines += [(steps, forecast.path(level).tolist()) for level in forecast.levels]
    for x, y in lines:
        figure.draw(figure.signal(x, y, marker="braille").lines())
    return Text.from_ansi(str(figure.build()))


def _source(forecast: Forecast) -> str:
    meta = forecast.meta
    why = f" ({meta.fallback_reason})" if meta.fallback_reason else ""
    return f"{meta.model_name}{why}"


def _last(past: Values) -> str:
    known = [value for value in past if value is not None]
    return f"{known[-1]:.3f}" if known else "none"


def status_view(status: Mapping[str, Any]) -> Group:
    """The whole status; fields missing in the answer are left out."""
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
    p50_ms, p95_ms = requests.get("p50_ms"), requests.get("p95_ms")
    times = f"p50 {p50_ms:.0f} ms, p95 {_number(p95_ms, '.0f')} ms" if p50_ms is not None else ""
    return (
        f"last {window_s / 60:g} min: {requests.get('total', 0)} requests, "
        f"{_number(requests.get('rate_per_s'), '.1f')} /s, "
        f"fallback {_number(share, '.1%')}, from cache {_number(hits, '.1%')}, "
        f"{times or 'single requests: none'}"
    )


def _history(history: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for key in _HISTORY:
        values = [point.get(key) for point in history]
        newest = next((v for v in reversed(values) if v is not None), None)
        spark = sparkline(values, _HISTORY_SPARK)
        table.add_row(key.replace("_", " "), spark, _number(newest, ".0f"))
    return table


def _counts(label: str, counts: Mapping[str, Any]) -> str:
    return f"{label}: " + ", ".join(f"{name} {count}" for name, count in counts.items())


def _breakers(breakers: Sequence[Mapping[str, Any]]) -> RenderableType:
    if not breakers:
        return "no breaker states are known yet"
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
    forms = {
        "target": ".0%", "coverage": ".1%", "samples": ".0f", "mean_width": ".3f",
        "breach_rate": ".1%",
    }  # fmt: skip
    for row in rows:
        numbers = (_number(row.get(name), form) for name, form in forms.items())
        table.add_row(str(row.get("source")), str(row.get("segment")), *numbers)
    return table


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def sparkline(values: Values, width: int) -> str:
    """The newest of ``values`` as blocks between the least and the greatest; a space for None.

    More values than ``width`` are thinned out evenly.

    >>> sparkline([0.0, 0.5, None, 1.0], width=10)
    '▁▅ █'
    >>> sparkline([0.3, 0.3], width=10)
    '▁▁'
    """
    every = max(1, -(-len(values) // width))
    shown = list(values)[::-1][::every][::-1]
    known = [value for value in shown if value is not None]
    if not known:
        return " " * len(shown)
    low, spread = min(known), max(known) - min(known)
    return "".join(" " if v is None else _block(v, low, spread) for v in shown)


def _block(value: float, low: float, spread: float) -> str:
    share = (value - low) / spread if spread else 0.0
    return _BLOCKS[min(len(_BLOCKS) - 1, int(share * len(_BLOCKS)))]
