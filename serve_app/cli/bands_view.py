"""Forecasts on the terminal: source, chart and table."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from serve_app.cli.sparkline import sparkline
from serve_app.client import Forecast

CHART_POINTS = 72  # past points in the chart
_HEIGHT = 16
_SPARK = 24


def show_one(console: Console, forecast: Forecast, past: Sequence[float | None]) -> None:
    """One market: its source, a chart (on a terminal) and a table of all steps."""
    console.print(f"{forecast.market_id}, last value {_last(past)}, {source(forecast)}")
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


def show_many(
    console: Console, answered: Sequence[tuple[Forecast, Sequence[float | None]]]
) -> None:
    """A row for each market: its past, and the band at the last step."""
    table = Table("market", "past", "last", box=None)
    for level in answered[0][0].levels:
        table.add_column(f"{level:g}", justify="right")
    table.add_column("from")
    for forecast, past in answered:
        row = (f"{value:.3f}" for value in forecast.paths[-1])
        spark = sparkline(past[-CHART_POINTS:], _SPARK)
        table.add_row(forecast.market_id, spark, _last(past), *row, _short_source(forecast))
    console.print(table)


def source(forecast: Forecast) -> str:
    """The model that made the bands, and the fallback reason if there is one."""
    meta = forecast.meta
    kept = f", {meta.cache_age_s:.0f} s old" if meta.cache_age_s is not None else ""
    notes = f"; {', '.join(meta.warnings)}" if meta.warnings else ""
    return f"from {_short_source(forecast)}{kept} in {meta.latency_ms:.0f} ms{notes}"


def chart(forecast: Forecast, past: Sequence[float | None], width: int, *, colour: bool) -> Any:
    """The past up to step 0 and the bands after it, as text that fits the width of a terminal."""
    from plotext import figure
    from rich.text import Text

    figure.clear()
    figure.theme("simple" if colour else "colorless")
    figure.plot_size(width, _HEIGHT)
    newest = past[-CHART_POINTS:]
    known = [(i + 1 - len(newest), v) for i, v in enumerate(newest) if v is not None]
    steps = list(range(1, 1 + len(forecast.paths)))
    lines = [([i for i, _ in known], [v for _, v in known])]
    lines += [(steps, forecast.path(level).tolist()) for level in forecast.levels]
    for x, y in lines:
        figure.draw(figure.signal(x, y, marker="braille").lines())
    return Text.from_ansi(str(figure.build()))


def _short_source(forecast: Forecast) -> str:
    meta = forecast.meta
    why = f" ({meta.fallback_reason})" if meta.fallback_reason else ""
    return f"{meta.model_name}{why}"


def _last(past: Sequence[float | None]) -> str:
    known = [value for value in past if value is not None]
    return f"{known[-1]:.3f}" if known else "none"
