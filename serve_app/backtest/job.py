"""The options of ``tsfm backtest`` and ``tsfm calibrate``, and the steps that both begin with."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runner.config.loading import Config
from runner.errors import ConfigError
from serve_app.backtest.band_store import Finished, Store, open_store
from serve_app.backtest.forecasters import BASELINE, REFERENCES, STATSFORECAST
from serve_app.backtest.market_file import load_series
from serve_app.backtest.service_bands import RETRIES, TIMEOUT_S, Served, ask_all
from serve_app.backtest.windows import (
    Shape,
    Split,
    Windows,
    cut_windows,
    sample,
    split_events,
    split_time,
)
from serve_app.client import Client

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

    @property
    def sources(self) -> list[str]:
        """Names of the forecasters that are computed in this process."""
        references = list(REFERENCES) if self.references else []
        return [BASELINE, *references, *(STATSFORECAST if self.statsforecast else ())]

    def reported(self) -> dict[str, Any]:
        """The settings in the report, without the token."""
        shown = {name: value for name, value in asdict(self).items() if name not in _NOT_REPORTED}
        return {**shown, **asdict(self.shape)}


def read_windows(job: Job) -> Windows:
    """The windows of the file, or a sample of them.

    Raises:
        ConfigError: a library is not installed, the file is not valid, or its series are too short.
    """
    _need(_LIBRARIES, "backtest")
    if job.statsforecast:
        _need(("statsforecast",), "reference")
    return sample(cut_windows(load_series(job.data), job.shape), job.sample, job.seed)


def store_of(job: Job, config: Config) -> Store:
    """The store of this job's finished chunks."""
    settings = {
        "shape": asdict(job.shape),
        "sample": (job.sample, job.seed),
        "baseline": config.baseline.model_dump(),
        "transform": config.transform.model_dump(mode="json"),
        "service": job.url,
    }
    return open_store(job.work, job.data, settings)


def ask_service(job: Job, windows: Windows, store: Store, finished: Finished) -> Served | None:
    """The answers of a running service; None if the job names no model.

    Raises:
        ClientError: the service cannot be reached, or refuses a request.
    """
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
