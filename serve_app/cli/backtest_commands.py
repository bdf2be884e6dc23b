"""``tsfm backtest`` and ``tsfm calibrate``: bands on real prices."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from serve_app.cli.terminal import (
    HERE,
    AsJson,
    InputError,
    Token,
    Url,
    found_config,
    note,
    print_json,
)

Data = Annotated[Path, typer.Argument(help="CSV, JSON or Parquet: market_id, ts, price, ...")]
Percent = Annotated[bool, typer.Option("--percent", help="Values are 0 to 100.")]
Points = Annotated[int, typer.Option(min=2, help="Past steps of a forecast.")]
Horizon = Annotated[int, typer.Option(min=1, help="Number of steps to forecast.")]
Origins = Annotated[int, typer.Option(min=1, help="Most forecasts per series.")]
Stride = Annotated[
    int | None, typer.Option(min=1, help="Fewest steps between two forecasts; default: --horizon.")
]
Sample = Annotated[int | None, typer.Option(min=1, help="Size of a random sample of forecasts.")]
Seed = Annotated[int, typer.Option(help="Seed of random samples and splits.")]
Model = Annotated[str | None, typer.Option(help="Also score this model of a running service.")]
By = Annotated[
    Literal["event", "time"], typer.Option("--split", help="Held out to check calibration.")
]
Holdout = Annotated[float, typer.Option(min=0.05, max=0.95, help="Held-out fraction.")]
Splits = Annotated[int, typer.Option(min=1, help="Number of random splits of the events.")]
Processes = Annotated[int | None, typer.Option(min=1, help="Default: one per core.")]
Work = Annotated[Path, typer.Option(help="Folder for finished parts, used again by later runs.")]
ConfigFile = Annotated[Path, typer.Option("--config", help="The service's configuration.")]


def backtest(
    data: Data,
    percent: Percent = False,
    points: Points = 288,
    horizon: Horizon = 12,
    origins: Origins = 40,
    stride: Stride = None,
    sample: Sample = None,
    seed: Seed = 0,
    model: Model = None,
    url: Url = HERE,
    token: Token = None,
    references: Annotated[bool, typer.Option(help="Last value, random walk and so on.")] = True,
    statsforecast: Annotated[
        bool, typer.Option("--statsforecast", help="Naive, SES and AutoETS of statsforecast.")
    ] = False,
    alerts: Annotated[
        bool, typer.Option("--alerts", help="Compare alert rules on the baseline's bands instead.")
    ] = False,
    split: By = "event",
    holdout: Holdout = 0.5,
    splits: Splits = 4,
    processes: Processes = None,
    work: Work = Path(".tsfm-backtest"),
    config: ConfigFile = Path("configs/local.yaml"),
    html_file: Annotated[Path | None, typer.Option("--html", help="HTML file to write.")] = None,
    charts: Annotated[Path | None, typer.Option(help="Folder for the charts, as SVG.")] = None,
    save: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    as_json: AsJson = False,
) -> None:
    r"""Score bands on real prices, by forecasts from many origins.

    \b
    The file has a row for each price: market_id, ts, price in [0, 1],
    and optionally platform, category, event, liquidity. Needs the extra `backtest`.

    \b
    Examples:
      tsfm backtest prices.csv
      tsfm backtest prices.parquet --model chronos --html report.html --save report.json
      tsfm backtest prices.csv --statsforecast --sample 1600
      tsfm backtest prices.csv --alerts --charts alerts/
    """
    from runner.config.loading import load_config
    from serve_app.backtest.tables import alerts_table, all_tables
    from serve_app.backtest.windows import Shape
    from serve_app.cli.backtest_run import Job, alerts_of, backtest_of, print_table, write_report

    job = Job(
        data=data,
        percent=percent,
        shape=Shape(points, horizon, origins, stride),
        sample=sample,
        seed=seed,
        model=model,
        url=url,
        token=token,
        references=references,
        statsforecast=statsforecast,
        split=split,
        holdout_fraction=holdout,
        splits=splits,
        processes=processes,
        work=work,
    )
    if alerts and (html_file is not None or model is not None):
        raise InputError(
            "--alerts compares rules on the baseline's bands: no --html and no --model"
        )
    if alerts:
        found = alerts_of(job, load_config(found_config(config)))
        print_json(found) if as_json else print_table(alerts_table(found))
        write_report(found, save, None, charts)
        return
    result = backtest_of(job, load_config(found_config(config)))
    if as_json:
        print_json(result)
    else:
        for table in all_tables(result):
            print_table(table)
        if result["calibration"] is None:
            note("Too few moving windows to fit calibration on one part and check it on the other.")
    write_report(result, save, html_file, charts)


def calibrate(
    data: Data,
    out: Annotated[Path, typer.Option(help="State file to write; an existing one is replaced.")],
    percent: Percent = False,
    points: Points = 288,
    horizon: Horizon = 12,
    origins: Origins = 40,
    stride: Stride = None,
    sample: Sample = None,
    seed: Seed = 0,
    model: Model = None,
    url: Url = HERE,
    token: Token = None,
    split: By = "event",
    holdout: Holdout = 0.5,
    keep_held_out: Annotated[
        bool, typer.Option("--keep-held-out", help="Do not fit the file on the held-out part.")
    ] = False,
    processes: Processes = None,
    work: Work = Path(".tsfm-backtest"),
    config: ConfigFile = Path("configs/local.yaml"),
    as_json: AsJson = False,
) -> None:
    r"""Fit calibration on real prices, and write it to a file.

    \b
    First a check: fitted on one part of the data, scored on the held-out part.
    Then the file for conformal.state_file, fitted on all data. Needs the extra `backtest`.

    \b
    Examples:
      tsfm calibrate prices.csv --out .state/conformal.json
      tsfm calibrate prices.parquet --model chronos --out .state/conformal.json
    """
    from runner.config.loading import load_config
    from serve_app.backtest.calibration import sample_sizes
    from serve_app.backtest.tables import calibration_table
    from serve_app.backtest.windows import Shape
    from serve_app.cli.backtest_run import Job, calibration_of, print_table

    job = Job(
        data=data,
        percent=percent,
        shape=Shape(points, horizon, origins, stride),
        sample=sample,
        seed=seed,
        model=model,
        url=url,
        token=token,
        references=False,
        split=split,
        holdout_fraction=holdout,
        splits=1,
        processes=processes,
        work=work,
    )
    settings = load_config(found_config(config))
    state, check = calibration_of(job, settings, out, keep_held_out=keep_held_out)
    rows = sample_sizes(state)
    if as_json:
        names = ("source", "segment", "outcomes")
        sizes = [dict(zip(names, row, strict=True)) for row in rows]
        print_json({"check": check, "state": sizes})
    else:
        print_table(calibration_table(check))
        for source, segment, samples in rows:
            typer.echo(f"{source}  {segment}  {samples} outcomes")
    note("Name the file in conformal.state_file or TSFM_CONFORMAL__STATE_FILE of the service.")
