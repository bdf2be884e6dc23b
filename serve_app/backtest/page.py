"""The result as one self-contained HTML file, with charts as inline SVG, drawn by matplotlib.

Its colours are those of the console, light or dark. Text in a chart stays text, without random ids
or dates: the same result gives the same file.
"""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from serve_app.backtest.scores import Summary
from serve_app.backtest.tables import all_tables

_TEMPLATE = Path(__file__).with_name("page.html")
_CSS = Path(__file__).parents[1] / "console" / "static" / "page.css"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "savefig.transparent": True,
}
_BLACK = "#000000"  # of axes and lines: in the page the colour of its text
_UNUSED_ID = re.compile(r'<g id="[^"]*">')  # equal in all charts, but unique in a page
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: file name, title, caption and SVG text."""

    name: str
    title: str
    note: str
    svg: str


def render(result: Summary) -> str:
    """The page's text."""
    import jinja2  # of an optional extra

    template = jinja2.Environment(autoescape=True).from_string(_TEMPLATE.read_text("utf-8"))
    days = (datetime.fromtimestamp(result["data"][end], UTC).date() for end in ("from", "to"))
    first, last = days
    tables = all_tables(result)
    css = _CSS.read_text("utf-8")
    return template.render(
        result, css=css, first=first, last=last, tables=tables, charts=charts(result)
    )


def charts(result: Summary) -> list[Chart]:
    """All charts of a result."""
    sources = result["sources"]
    return [
        Chart(
            "coverage", "Coverage by step", "On moving markets; below 0.4 nothing is drawn.",
            coverage_by_step(sources),
        ),
        Chart(
            "reliability", "Reliability", "On moving markets; the target is the dashed line.",
            reliability(sources),
        ),
    ]  # fmt: skip


def alert_charts(result: Summary) -> list[Chart]:
    """The charts of a comparison of alert rules."""
    return [
        _by_alerts(result, "worth_share", "alerts-worth", "alerts whose move lasted, 1 % or more"),
        _by_alerts(
            result, "large_moves_seen", "alerts-large", "lasting moves of 5 % that are seen"
        ),
    ]


def _by_alerts(result: Summary, figure_name: str, name: str, label: str) -> Chart:
    """A figure of each rule against the number of alerts."""
    figure, axes = _figure(name, width=6.0)
    curve = result["curve"]
    for rule, colour in zip(curve[0]["rules"], _COLOURS, strict=False):
        points = [one["rules"][rule] for one in curve]
        x, y = ([one[key] for one in points] for key in ("per_market_day", figure_name))
        axes.plot(x, y, "o-", ms=4, lw=1.3, color=colour, label=rule)
    axes.set(xlabel="alerts of a market in a day", ylabel=f"share of {label}", ylim=(0, 1))
    return Chart(name, f"Share of {label}", "By the number of alerts.", _svg(figure))


def coverage_by_step(sources: Mapping[str, Summary], target: float = 0.8) -> str:
    """Coverage of the 80 % band of each source at each step, on moving windows."""
    figure, axes = _figure("coverage")
    axes.axhline(target, color="black", lw=0.8, ls="--")
    for (name, source), colour in zip(sources.items(), cycle(_COLOURS), strict=False):
        coverage = np.array(source["moving"]["steps"]["coverage_80"], dtype=np.float64)
        axes.plot(np.arange(1, len(coverage) + 1), coverage, "o-", ms=3, lw=1.3, color=colour)
        axes.plot([], [], color=colour, label=name)
    axes.set(xlabel="step", ylabel="coverage of the 80 % band", ylim=(0.4, 1.01))
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _svg(figure)


def reliability(sources: Mapping[str, Summary]) -> str:
    """Share of outcomes below each level against the level, on moving windows."""
    figure, axes = _figure("reliability", width=6.0)
    axes.plot([0, 1], [0, 1], color="black", lw=0.8, ls="--")
    for (name, source), colour in zip(sources.items(), cycle(_COLOURS), strict=False):
        levels = [row["level"] for row in source["reliability"]]
        shares = np.array([row["share_below"] for row in source["reliability"]], dtype=np.float64)
        axes.plot(levels, shares, "o-", ms=4, lw=1.3, color=colour, label=name)
    axes.set(xlabel="level", ylabel="share of outcomes below", xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")
    return _svg(figure)


def _figure(salt: str, width: float = 7.5, height: float = 4.0) -> tuple[Any, Any]:
    import matplotlib as mpl  # of an optional extra
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE | {"svg.hashsalt": salt}):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.set_gid(salt)
        return figure, figure.subplots()


def _svg(figure: Any) -> str:
    import matplotlib as mpl

    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    text = io.StringIO()
    salt = {"svg.hashsalt": figure.get_gid()}  # pages hold several charts: their ids must differ
    with mpl.rc_context(_STYLE | salt):
        figure.savefig(text, format="svg", metadata=_NO_METADATA)
    drawn = _UNUSED_ID.sub("<g>", text.getvalue()).replace(_BLACK, "currentColor")
    return drawn[drawn.index("<svg") :]
