"""``tsfm calibrate``: fits the initial state of calibration."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve_app.cli.commands.backtest import (
    By,
    ConfigFile,
    Data,
    Holdout,
    Horizon,
    Model,
    Origins,
    Points,
    Processes,
    Sample,
    Seed,
    SplitBy,
    Stride,
    Work,
)
from serve_app.cli.service import HERE, Token, Url
from serve_app.cli.terminal import AsJson, found_here, note, print_json

if TYPE_CHECKING:
    from serve_app.backtest.calibrate import Fitted


def calibrate(
    data: Data,
    out: Annotated[Path, typer.Option(help="State file to write; an existing one is replaced.")],
    points: Points = 288,
    horizon: Horizon = 12,
    origins: Origins = 40,
    stride: Stride = None,
    sample: Sample = None,
    seed: Seed = 0,
    model: Model = None,
    url: Url = HERE,
    token: Token = None,
    split: By = SplitBy.EVENT,
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
    import os

    from runner.config.loading import load_config
    from serve_app.backtest.calibrate import fit_state, write_state
    from serve_app.backtest.job import Job, splits_of
    from serve_app.backtest.windows import Shape
    from serve_app.cli.commands.backtest_run import bands_of

    job = Job(
        data=data,
        shape=Shape(points, horizon, origins, stride),
        sample=sample,
        seed=seed,
        model=model,
        url=url,
        token=token,
        references=False,
        split=split.value,
        holdout_fraction=holdout,
        splits=1,
        processes=processes or os.cpu_count() or 1,
        work=work,
    )
    settings = load_config(found_here(config))
    windows, bands, served = bands_of(job, settings)
    [part] = splits_of(job, windows)
    fitted = fit_state(windows, bands, served, part, settings, keep_held_out=keep_held_out)
    write_state(out, fitted.state)
    _show(fitted, as_json=as_json)
    note(
        f"Wrote {out}; conformal.state_file or TSFM_CONFORMAL__STATE_FILE names it in the service."
    )


def _show(fitted: "Fitted", *, as_json: bool) -> None:
    from serve_app.backtest.calibrate import sample_sizes
    from serve_app.backtest.report.tables import calibration_table
    from serve_app.cli.tables import print_table

    rows = sample_sizes(fitted.state)
    if as_json:
        names = ("source", "segment", "outcomes")
        state = [dict(zip(names, row, strict=True)) for row in rows]
        print_json({"check": fitted.check, "state": state})
        return
    print_table(calibration_table(fitted.check))
    for source, segment, samples in rows:
        typer.echo(f"{source}  {segment}  {samples} outcomes")
