"""``tsfm backtest`` and ``tsfm calibrate``: their options and work, with progress on stderr."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from runner.calibration.state import ConformalState, save_state
from runner.config.loading import Config
from runner.errors import ConfigError
from runner.types import FloatArray
from serve_app.backtest.alert_rules import HORIZON, POINTS, compare_rules, steps_of
from serve_app.backtest.band_store import Finished, Store, compute, open_store
from serve_app.backtest.calibration import Calibrator, baseline_answers, fit_state
from serve_app.backtest.forecasters import BASELINE, REFERENCES, STATSFORECAST
from serve_app.backtest.market_file import LABELS, Series, series_of
from serve_app.backtest.page import alert_charts, charts, render
from serve_app.backtest.report import build
from serve_app.backtest.scores import Summary
from serve_app.backtest.service_bands import RETRIES, TIMEOUT_S, Served, ask_all
from serve_app.backtest.tables import TableText
from serve_app.backtest.windows import (
    Shape,
    Split,
    Windows,
    cut_windows,
    sample,
    split_events,
    split_time,
)
from serve_app.cli.terminal import note, screen
from serve_app.watch.alerts import P_VALUE
from tsfm_client import Client
from tsfm_client.series_files import read_prices

_NOT_REPORTED = ("token", "work", "processes", "shape", "data")
_LIBRARIES = ("pandas", "pyarrow", "scoringrules", "jinja2", "matplotlib")


@dataclass(frozen=True, slots=True)
class Job:
    """The options of a backtest or a calibration."""

    data: Path
    shape: Shape = field(default_factory=Shape)
    sample: int | None = None
    seed: int = 0
    model: str | None = None  # a name or alias in the service; None: no service is used
    url: str = "http://127.0.0.1:8000"
    token: str | None = None
    references: bool = True
    statsforecast: bool = False
    split: str = "event"  # or "time": what is held out
    holdout_fraction: float = 0.5
    splits: int = 4  # number of random splits, where events are held out
    processes: int | None = None  # None: one per core
    work: Path = Path(".tsfm-backtest")
    percent: bool = False  # values are 0 to 100

    @property
    def sources(self) -> list[str]:
        """Names of the forecasters that are computed in this process."""
        references = list(REFERENCES) if self.references else []
        return [BASELINE, *references, *(STATSFORECAST if self.statsforecast else ())]

    def reported(self) -> dict[str, Any]:
        """The settings in the report, without the token."""
        shown = {name: value for name, value in asdict(self).items() if name not in _NOT_REPORTED}
        return {**shown, **asdict(self.shape)}


def backtest_of(job: Job, config: Config) -> Summary:
    """Runs the backtest and returns its result.

    Raises:
        ConfigError: a library is missing, or an option cannot be used.
        SeriesFileError: the file cannot be used.
        ClientError: the service cannot be reached, or refuses a request.
    """
    windows, bands, served = _bands_of(job, config)
    note("Scoring; fitting calibration on one part, checking it on the other.")
    result = build(config, windows, bands, served, splits_of(job, windows))
    result["settings"] = job.reported()
    result["data"]["file"] = job.data.name
    return result


def alerts_of(job: Job, config: Config) -> Summary:
    """Compares alert rules on the file; raises like `backtest_of`."""
    series = _series(job)
    with _progress({"series": len(series)}) as finished:
        steps = []
        for one in series:
            steps.append(steps_of(one, config))
            finished("series", 1)
    known = [one for one in steps if one is not None]
    if len(known) < 2:
        raise ConfigError(f"Two series with {POINTS + HORIZON} steps are needed.")
    return compare_rules(known, P_VALUE)


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
        drawn = alert_charts(result) if "curve" in result else charts(result)
        texts |= {charts_folder / f"{chart.name}.svg": chart.svg for chart in drawn}
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


def read_windows(job: Job) -> Windows:
    """The windows of the file, or a sample of them."""
    _need(_LIBRARIES, "backtest")
    if job.statsforecast:
        _need(("statsforecast",), "reference")
    return sample(cut_windows(_series(job), job.shape), job.sample, job.seed)


def _series(job: Job) -> list[Series]:
    prices = read_prices(job.data, percent=job.percent, labels=LABELS)
    for text in prices.notes:
        note(text)
    return series_of(prices)


def store_of(job: Job, config: Config) -> Store:
    """The store of this job's finished chunks."""
    settings = {
        "shape": asdict(job.shape),
        "percent": job.percent,
        "sample": (job.sample, job.seed),
        "baseline": config.baseline.model_dump(),
        "transform": config.transform.model_dump(mode="json"),
        "service": job.url,
    }
    return open_store(job.work, job.data, settings)


def ask_service(job: Job, windows: Windows, store: Store, finished: Finished) -> Served | None:
    """The answers of a running service; None if the job names no model."""
    if job.model is None:
        return None
    with Client(job.url, job.token, timeout_s=TIMEOUT_S, retries=RETRIES) as client:
        ask_all(client, job.model, windows, store, finished)
    return Served(job.model, store.gather(job.model, windows))


def splits_of(job: Job, windows: Windows) -> Sequence[Split]:
    """The splits of the windows into a part to fit and a part to check."""
    if job.split == "time":
        return [split_time(windows, job.holdout_fraction)]
    return [split_events(windows, job.holdout_fraction, job.seed + i) for i in range(job.splits)]


def _need(libraries: Sequence[str], extra: str) -> None:
    missing = [library for library in libraries if find_spec(library) is None]
    if missing:
        raise ConfigError(
            f"This command needs {' and '.join(missing)}: "
            f"pip install '.[{extra}]' in the folder of TSFM Runner"
        )


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
