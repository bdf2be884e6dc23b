"""The work of ``tsfm backtest`` and ``tsfm calibrate``, with progress on stderr."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from runner.calibration.state import ConformalState, save_state
from runner.config.loading import Config
from runner.errors import ConfigError
from runner.types import FloatArray
from serve_app.backtest.band_store import compute
from serve_app.backtest.calibration import Calibrator, baseline_answers, fit_state
from serve_app.backtest.forecasters import BASELINE
from serve_app.backtest.job import Job, ask_service, read_windows, splits_of, store_of
from serve_app.backtest.page import charts, render
from serve_app.backtest.report import build
from serve_app.backtest.scores import Summary
from serve_app.backtest.service_bands import Served
from serve_app.backtest.tables import TableText
from serve_app.backtest.windows import Windows
from serve_app.cli.terminal import note, screen


def backtest_of(job: Job, config: Config) -> Summary:
    """Runs the backtest and returns its result.

    Raises:
        ConfigError: the file or an option cannot be used.
        ClientError: the service cannot be reached, or refuses a request.
    """
    windows, bands, served = _bands_of(job, config)
    note("Scoring; fitting calibration on one part, checking it on the other.")
    return build(job, config, windows, bands, served)


def calibration_of(
    job: Job, config: Config, out: Path, *, keep_held_out: bool
) -> tuple[ConformalState, Summary]:
    """Fits the state of the baseline, and of the model if a service is used; writes it to ``out``.

    Returns the state, and the check of one that was fitted without the held-out part. Raises like
    `backtest_of`, also for too few windows on moving markets.
    """
    windows, bands, served = _bands_of(job, config)
    sources = [baseline_answers(bands[BASELINE]), *([served.answers] if served else [])]
    [split] = splits_of(job, windows)
    calibrator = Calibrator(windows, config.conformal)
    found = fit_state(calibrator, sources, split, keep_held_out=keep_held_out)
    _write(out, partial(save_state, out, found[0]))
    return found


def write_report(
    result: Summary, json_file: Path | None, html_file: Path | None, charts_folder: Path | None
) -> None:
    """Writes the result to the files that are given."""
    texts: dict[Path, str] = {}
    if json_file is not None:
        texts[json_file] = json.dumps(result, indent=1) + "\n"
    if html_file is not None:
        texts[html_file] = render(result)
    if charts_folder is not None:
        texts |= {charts_folder / f"{chart.name}.svg": chart.svg for chart in charts(result)}
    for file, text in texts.items():
        _write(file, partial(file.write_text, text, "utf-8"))


def print_table(text: TableText) -> None:
    """A table on stdout; in a pipe no row is broken."""
    console = screen()
    table = Table(title=text.title, title_justify="left", box=None, pad_edge=False)
    for i, name in enumerate(text.head):
        table.add_column(name, justify="right" if i else "left", no_wrap=not i)
    for row in text.rows:
        table.add_row(*row)
    console.print(table)
    console.print(text.note, style="dim")


def _bands_of(job: Job, config: Config) -> tuple[Windows, dict[str, FloatArray], Served | None]:
    """Windows and their bands from all sources; chunks of an earlier run are used again."""
    windows, store = read_windows(job), store_of(job, config)
    note(f"{len(windows):,} forecasts, {int(windows.moving.sum()):,} of them on moving markets.")
    names = [*job.sources, *([job.model] if job.model else [])]
    with _progress({name: len(windows) for name in names}) as finished:
        processes = job.processes or os.cpu_count() or 1
        bands = compute(job.sources, windows, config, store, processes, finished)
        served = ask_service(job, windows, store, finished)
    return windows, bands, served


def _write(file: Path, write: Callable[[], object]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write()
    except OSError as exc:
        raise ConfigError(f"{file}: cannot be written ({exc.strerror}).") from exc
    note(f"Wrote {file}.")


@contextmanager
def _progress(totals: dict[str, int]) -> Iterator[Callable[[str, int], None]]:
    """A progress bar for each source; yields the callback that advances them."""
    with Progress(console=Console(stderr=True)) as progress:
        tasks = {name: progress.add_task(name, total=total) for name, total in totals.items()}
        yield lambda name, more: progress.advance(tasks[name], more)
