"""``tsfm forecast FILE``: requests bands for the markets in a file."""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_app.cli.terminal import (
    HERE,
    AsJson,
    InputError,
    Token,
    Url,
    check_folder,
    connect,
    exit_code_of,
    message_of,
    note,
    print_json,
    screen,
)

if TYPE_CHECKING:
    from tsfm_client import Client, Forecast, ServiceError

    Result = Forecast | ServiceError

COLUMNS = ("market_id", "step", "ts", "level", "value", "model", "reason", "warnings")
ADVICE = {
    "model_not_installed": "see `tsfm models`",
    "too_few_points": "the market needs more prices (fallback.min_points_for_tsfm)",
}


def forecast(
    file: Annotated[Path, typer.Argument(help="CSV, JSON or Parquet, .gz too; - for stdin.")],
    model: Annotated[
        str | None, typer.Option(help="Name or alias, as `tsfm models` shows them.")
    ] = None,
    horizon: Annotated[int | None, typer.Option(help="Number of steps to forecast.")] = None,
    levels: Annotated[
        str | None, typer.Option(help="Quantile levels, for example 0.05,0.5,0.95.")
    ] = None,
    freq: Annotated[str | None, typer.Option(help="Step of the series, for example 5m.")] = None,
    as_of: Annotated[str | None, typer.Option(help="Time of the last value, ISO-8601.")] = None,
    conformal: Annotated[bool, typer.Option("--conformal", help="Also calibrated paths.")] = False,
    market: Annotated[list[str] | None, typer.Option(help="Only this market; repeatable.")] = None,
    points: Annotated[int, typer.Option(help="Newest values to send per market.", min=2)] = 500,
    percent: Annotated[bool, typer.Option("--percent", help="Values are 0 to 100.")] = False,
    deadline_ms: Annotated[
        float | None, typer.Option(help="Deadline of the answer.", min=1)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write to this .csv or .json as well.")] = None,
    url: Url = HERE,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Forecast the markets in a file and show their bands.

    \b
    A table has columns like ts, price and, for several markets, market_id; or ts and a column for
    each market. JSON may also be values, requests, or what Polymarket and Kalshi send.
    Exit code 2 if the input of a market is invalid, else 1 if a market has no answer.

    \b
    Examples:
      tsfm forecast prices.csv
      tsfm forecast markets.csv.gz --market m-1 --horizon 24 --levels 0.05,0.5,0.95
      tsfm forecast markets.csv --out bands.csv
      printf '0.41\\n0.42\\n0.44\\n' | tsfm forecast - --json
    """
    from tsfm_client.series_files import read_prices

    if out is not None and out.suffix not in (".csv", ".json"):
        raise InputError(f"--out {out}: end the name in .csv or .json")
    check_folder("--out", out)
    options = {
        "model": {"model_name": model} if model else None,
        "horizon_steps": horizon,
        "quantiles": _quantiles(levels),
        "freq": freq,
        "as_of_ts": as_of,
        "conformal": conformal or None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    prices = read_prices(file, percent=percent)
    for text in prices.notes:
        note(text)
    found = prices.requests(points)
    bodies = [body | given for body in found if not market or body.get("market_id") in market]
    if not bodies:
        raise InputError(f"{file}: contains none of the requested markets")
    with connect(url, token) as client:
        results = _ask(client, bodies, deadline_ms)
    if out is not None:
        _write(out, results)
    _show(bodies, results, as_json=as_json)


def _quantiles(levels: str | None) -> list[float] | None:
    try:
        return [float(level) for level in levels.split(",")] if levels else None
    except ValueError as exc:
        raise InputError(f"--levels {levels}: write numbers, like 0.05,0.5,0.95") from exc


def _ask(
    client: "Client", bodies: list[dict[str, Any]], deadline_ms: float | None
) -> "list[Result]":
    """A result for each request, in order; the error of a single request is raised."""
    if len(bodies) == 1:
        return [client.send(bodies[0], deadline_ms=deadline_ms)]
    from rich.console import Console
    from rich.progress import track

    err = Console(stderr=True)
    items = track(
        client.forecast_many(bodies, deadline_ms=deadline_ms),
        "Forecasting",
        total=len(bodies),
        console=err,
        disable=not err.is_terminal,
        transient=True,
    )
    return [result for _, result in sorted(items, key=lambda item: item[0])]


def _show(bodies: list[dict[str, Any]], results: "list[Result]", *, as_json: bool) -> None:
    from serve_app.cli.views import show_many, show_one
    from tsfm_client import Forecast

    pairs = list(zip(bodies, results, strict=True))
    answered = [(r, body["y"]) for body, r in pairs if isinstance(r, Forecast)]
    if as_json:
        items = _items(results)
        print_json(items[0]["ok"] if len(items) == 1 else {"results": items})
    elif len(results) == 1:
        show_one(screen(), *answered[0])
    elif answered:
        show_many(screen(), answered)
    if len(results) > 1:
        _note_fallbacks([forecast for forecast, _ in answered])
    refused = [(body, r) for body, r in pairs if not isinstance(r, Forecast)]
    markets = defaultdict(list)
    for body, error in refused:
        markets[message_of(error)].append(str(body.get("market_id", "?")))
    for message, names in markets.items():
        note(f"{names[0] if len(names) == 1 else f'{len(names)} markets'}: {message}")
    if refused:
        raise typer.Exit(max(exit_code_of(error) for _, error in refused))


def _note_fallbacks(forecasts: "list[Forecast]") -> None:
    """One line with the number of forecasts from the baseline and the reasons."""
    metas = [forecast.meta for forecast in forecasts]
    reasons = Counter(str(m.fallback_reason) for m in metas if m.runtime == "baseline")
    if not reasons:
        return
    counts = (f"{reason} {count}" for reason, count in reasons.most_common())
    words = next(iter(reasons)) if len(reasons) == 1 else ", ".join(counts)
    advice = "".join(f"; {text}" for reason, text in ADVICE.items() if reason in reasons)
    note(f"{reasons.total()} of {len(forecasts)} from the baseline: {words}{advice}")


def _items(results: "list[Result]") -> list[dict[str, Any]]:
    from tsfm_client import Forecast

    return [
        {"ok": r.wire}
        if isinstance(r, Forecast)
        else {"error": {"code": r.code, "message": r.message, "detail": r.detail}}
        for r in results
    ]


def _write(out: Path, results: "list[Result]") -> None:
    from tsfm_client import Forecast

    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            if out.suffix == ".json":
                json.dump({"results": _items(results)}, file)
                return
            rows = csv.writer(file)
            rows.writerow(COLUMNS)
            for result in results:
                if isinstance(result, Forecast):
                    rows.writerows(_rows(result))
    except OSError as exc:
        raise InputError(f"--out {out}: cannot be written ({exc.strerror})") from exc


def _rows(forecast: "Forecast") -> Iterable[tuple[Any, ...]]:
    meta = forecast.meta
    source = (meta.model_name, meta.fallback_reason or "", ";".join(meta.warnings))
    for i, moment in enumerate(forecast.times):
        for level, value in zip(forecast.levels, forecast.paths[i], strict=True):
            step = (forecast.market_id, i + 1, moment.isoformat())
            yield *step, level, f"{value:.6f}", *source
