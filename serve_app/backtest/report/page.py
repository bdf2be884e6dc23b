"""The result as one self-contained HTML file: tables, and charts as inline SVG."""

from dataclasses import dataclass
from datetime import UTC, datetime

from serve_app.backtest.report import plots
from serve_app.backtest.report.tables import all_tables
from serve_app.backtest.scoring.summary import Summary

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Backtest of {{ data.file }}</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem;
         color: #1b1b1b; background: #fff; }
  h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; }
  th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd;
           white-space: nowrap; }
  th { font-weight: 600; } th:first-child, td:first-child { text-align: left; }
  figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
  figcaption, .note { color: #555; font-size: .88rem; }
</style>
</head>
<body>
<h1>Backtest of {{ data.file }}</h1>
<p>{{ "{:,}".format(data.windows) }} forecasts of {{ "{:,}".format(data.markets) }} markets in
{{ "{:,}".format(data.events) }} events, {{ first }} to {{ last }};
{{ "{:,}".format(data.moving_windows) }} of them move.
{{ "%.0f"|format(100 * data.unchanged_fraction) }} % of all steps change nothing, and a band about a
price that never moves is always right: judge coverage on the windows that move.</p>
{% if service %}<p>{{ service.asked_for }} was requested; answered by
{% for name, count in service.answered_by.items() %}{{ name }} ({{ "{:,}".format(count) }})
{% endfor %}{% for reason, count in service.fallback_reasons.items() %}; {{ reason }}:
{{ "{:,}".format(count) }}{% endfor %}.</p>{% endif %}
{% for table in tables %}
<h2>{{ table.title }}</h2>
<div class="scroll"><table>
<thead><tr>{% for cell in table.head %}<th>{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in table.rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</tbody></table></div><p class="note">{{ table.note }}</p>
{% endfor %}
{% for chart in charts %}
<h2>{{ chart.title }}</h2>
<figure role="img" aria-label="{{ chart.title }}">{{ chart.svg|safe }}
<figcaption>{{ chart.note }}</figcaption></figure>
{% endfor %}
<h2>How it was run</h2>
<p class="note">{% for name, value in settings.items() %}{{ name }}: {{ value }}{{ "; " if not
loop.last }}{% endfor %}</p>
</body>
</html>
"""


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

    template = jinja2.Environment(autoescape=True).from_string(_TEMPLATE)
    data = result["data"]
    return template.render(
        data=data,
        service=result["service"],
        settings=result["settings"],
        first=_day(data["from"]),
        last=_day(data["to"]),
        tables=all_tables(result),
        charts=charts(result),
    )


def charts(result: Summary) -> list[Chart]:
    """All charts of a result."""
    sources, calibration = result["sources"], result["calibration"]
    found = [
        Chart(
            "coverage", "Coverage by step", "Moving windows; target: 0.80.",
            plots.coverage_by_step(sources),
        ),
        Chart(
            "reliability", "Reliability", "Moving windows; calibrated bands lie on the line.",
            plots.reliability(sources),
        ),
        Chart(
            "examples", "Examples of the baseline",
            "Past, median, bands of 80 and 90 %, and actual values (dots).",
            plots.fans(result["examples"]),
        ),
    ]  # fmt: skip
    if calibration and any(len(row["with"]) > 1 for row in calibration["recovery"]["rows"]):
        drawn = plots.recovery(calibration["recovery"], calibration["target"])
        note = "Coverage when, from one moment on, prices end three times as far from the median."
        found.append(Chart("recovery", "After a change of volatility", note, drawn))
    return found


def _day(ts: float) -> str:
    return datetime.fromtimestamp(ts, UTC).date().isoformat()
