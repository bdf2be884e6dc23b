"""What both commands start with: a file cut into windows, and bands for each of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from runner.config.loading import Config
from runner.types import FloatArray, Transform
from serve_app.backtest.forecasters.forecasters import BASELINE, OUTSIDE, BaselineSettings
from serve_app.backtest.forecasters.references import REFERENCES
from serve_app.backtest.forecasters.service import ask_all
from serve_app.backtest.market_file import load_series
from serve_app.backtest.report.report import Served
from serve_app.backtest.run import Finished, compute, gather
from serve_app.backtest.store import Store, open_store
from serve_app.backtest.windows import (
    Shape,
    Split,
    Windows,
    cut_windows,
    sample,
    split_events,
    split_time,
)

BY_EVENT, BY_TIME = "event", "time"


@dataclass(frozen=True, slots=True)
class Job:
    """What a person asked for."""

    data: Path
    shape: Shape = field(default_factory=Shape)
    sample: int | None = None
    seed: int = 0
    model: str | None = None  # as the service knows it; None: none
    url: str = "http://127.0.0.1:8000"
    token: str | None = None
    references: bool = True
    statsforecast: bool = False
    split: str = BY_EVENT
    holdout_fraction: float = 0.5
    splits: int = 4  # random ones, where events are held out
    processes: int = 1
    work: Path = Path(".tsfm-backtest")

    @property
    def sources(self) -> list[str]:
        """What is computed here."""
        references = list(REFERENCES) if self.references else []
        return [BASELINE, *references, *(OUTSIDE if self.statsforecast else ())]

    def told(self) -> dict[str, Any]:
        """The settings as they are reported; a token is nobody's business."""
        told = {name: value for name, value in asdict(self).items() if name not in _UNTOLD}
        return {**told, **asdict(self.shape)}


_UNTOLD = ("token", "work", "processes", "shape", "data")


def read_windows(job: Job) -> Windows:
    """The windows of the file, or a sample of them.

    Raises:
        ConfigError: the file is wrong, or its series are too short.
    """
    return sample(cut_windows(load_series(job.data), job.shape), job.sample, job.seed)


def store_of(job: Job, config: Config) -> Store:
    """Where the finished chunks of this job are kept."""
    settings = {
        "shape": asdict(job.shape),
        "sample": (job.sample, job.seed),
        "baseline": config.baseline.model_dump(),
        "transform": config.transform.model_dump(mode="json"),
        "service": job.url,
    }
    return open_store(job.work, job.data, settings)


def compute_bands(
    job: Job, config: Config, windows: Windows, store: Store, finished: Finished
) -> dict[str, FloatArray]:
    """Bands of the baseline and of every reference."""
    transform = Transform(config.transform.space, config.transform.eps)
    baseline = BaselineSettings(config.baseline, transform)
    return compute(job.sources, windows, baseline, store, job.processes, finished)


def ask_service(job: Job, windows: Windows, store: Store, finished: Finished) -> Served | None:
    """What the running service answers; None where no model was asked for.

    Raises:
        ConfigError: it is not there, or refuses.
    """
    if job.model is None:
        return None
    headers = {"authorization": f"Bearer {job.token}"} if job.token else {}
    with httpx.Client(base_url=job.url, headers=headers, timeout=120, trust_env=False) as client:
        ask_all(client, job.model, windows, store, finished)
    return Served(job.model, gather(store, job.model, len(windows)))


def splits_of(job: Job, windows: Windows) -> Sequence[Split]:
    """How windows are parted into those that teach and those that judge."""
    if job.split == BY_TIME:
        return [split_time(windows, job.holdout_fraction)]
    return [split_events(windows, job.holdout_fraction, job.seed + i) for i in range(job.splits)]
