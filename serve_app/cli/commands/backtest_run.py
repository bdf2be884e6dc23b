"""Runs the steps of ``tsfm backtest`` and ``tsfm calibrate``, with progress on stderr."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from runner.config.loading import Config
from runner.errors import ConfigError
from runner.types import FloatArray
from serve_app.backtest.job import (
    Job,
    ask_service,
    compute_bands,
    read_windows,
    splits_of,
    store_of,
)
from serve_app.backtest.report.page import charts, render
from serve_app.backtest.report.report import Served, build
from serve_app.backtest.scoring.summary import Summary
from serve_app.backtest.windows import Windows
from serve_app.cli.terminal import note


def run(job: Job, config: Config) -> Summary:
    """Runs the backtest and returns its result.

    Raises:
        ConfigError: the file or an option cannot be used.
        ClientError: the service cannot be reached, or refuses a request.
    """
    windows, bands, served = bands_of(job, config)
    note("Scoring; fitting calibration on one part, checking it on the other.")
    splits = splits_of(job, windows)
    return build(job.data, windows, bands, served, splits, config, job.reported())


def bands_of(job: Job, config: Config) -> tuple[Windows, dict[str, FloatArray], Served | None]:
    """Windows and their bands from all sources; chunks of an earlier run are used again."""
    windows, store = read_windows(job), store_of(job, config)
    note(f"{len(windows):,} forecasts, {int(windows.moving.sum()):,} of them on moving markets.")
    names = [*job.sources, *([job.model] if job.model else [])]
    with _progress({name: len(windows) for name in names}) as finished:
        bands = compute_bands(job, config, windows, store, finished)
        served = ask_service(job, windows, store, finished)
    return windows, bands, served


def write(
    result: Summary, json_file: Path | None, html_file: Path | None, charts_folder: Path | None
) -> None:
    """Writes the result to the files that are given."""
    if json_file is not None:
        _write(json_file, json.dumps(result, indent=1) + "\n")
    if html_file is not None:
        _write(html_file, render(result))
    if charts_folder is not None:
        for chart in charts(result):
            _write(charts_folder / f"{chart.name}.svg", chart.svg)


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    except OSError as exc:
        raise ConfigError(f"{file}: cannot be written ({exc.strerror}).") from exc
    note(f"Wrote {file}.")


@contextmanager
def _progress(totals: dict[str, int]) -> Iterator[Callable[[str, int], None]]:
    """A progress bar for each source; yields the callback that advances them."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks = {name: progress.add_task(name, total=total) for name, total in totals.items()}
        yield lambda name, more: progress.advance(tasks[name], more)
