"""Windows of a backtest: past and future values around each forecast origin, and splits of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.errors import ConfigError
from runner.types import FloatArray
from serve_app.backtest.market_file import LABELS, Series

BoolArray = NDArray[np.bool_]
MOVING_CHANGES = 12  # fewest changes in the past of a moving window; see docs/calibration.md


@dataclass(frozen=True, slots=True)
class Shape:
    """Past points, horizon, and number of forecast origins per series."""

    points: int = 288
    horizon_steps: int = 12
    max_origins: int = 40
    stride: int | None = None  # fewest steps between two origins; None: horizon_steps

    def origins(self, length: int) -> NDArray[np.intp]:
        """The forecast origins of a series: evenly spread, the last one as late as possible."""
        last = length - self.horizon_steps
        if last < self.points:
            return np.zeros(0, dtype=np.intp)
        apart = self.stride or self.horizon_steps
        count = min(self.max_origins, (last - self.points) // apart + 1)
        return np.unique(np.linspace(self.points, last, count).astype(np.intp))


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """B windows."""

    past: FloatArray  # (B, T) probabilities
    future: FloatArray  # (B, H) probabilities
    origin_ts: FloatArray  # (B,) time of the last past value, POSIX seconds
    step_s: FloatArray  # (B,) seconds between values
    labels: Mapping[str, NDArray[np.str_]]  # (B,) each: market_id, event, platform, ...

    def __len__(self) -> int:
        return len(self.past)

    def take(self, rows: NDArray[np.intp] | BoolArray | slice) -> "Windows":
        """The chosen windows."""
        labels = {name: values[rows] for name, values in self.labels.items()}
        return Windows(
            self.past[rows], self.future[rows], self.origin_ts[rows], self.step_s[rows], labels
        )

    @property
    def changes(self) -> NDArray[np.intp]:
        """Number of changes in each past, ``(B,)``."""
        counts: NDArray[np.intp] = np.count_nonzero(np.diff(self.past, axis=1), axis=1)
        return counts

    @property
    def moving(self) -> BoolArray:
        """``(B,)``: windows with at least ``MOVING_CHANGES`` changes in their past."""
        return self.changes >= MOVING_CHANGES


def cut_windows(series: Sequence[Series], shape: Shape) -> Windows:
    """All windows of the series, without those whose future was carried forward over a gap.

    Raises:
        ConfigError: no series is long enough.
    """
    past, future, when, step_s, owner = [], [], [], [], []
    for index, one in enumerate(series):
        for origin in shape.origins(len(one.y_prob)):
            ahead = slice(origin, origin + shape.horizon_steps)
            if not one.known[ahead].all():
                continue
            past.append(one.y_prob[origin - shape.points : origin])
            future.append(one.y_prob[ahead])
            when.append(one.start_ts + (origin - 1) * one.step_s)
            step_s.append(one.step_s)
            owner.append(index)
    if not past:
        raise ConfigError(
            f"No series has {shape.points} past steps and {shape.horizon_steps} to forecast; "
            "use fewer with --points or --horizon."
        )
    labels = {
        name: np.array([_label(one, name) for one in series])[owner]
        for name in ("market_id", *LABELS)
    }
    return Windows(np.array(past), np.array(future), np.array(when), np.array(step_s), labels)


def _label(series: Series, name: str) -> str:
    """The label in the file; a market without an event is an event of its own."""
    if name == "market_id":
        return series.market_id
    return series.labels.get(name) or (series.market_id if name == "event" else "")


def freq(step_s: float) -> str:
    """A step in the form of requests and segments.

    >>> freq(300.0), freq(7200.0), freq(86400.0), freq(90.0)
    ('5m', '2h', '1d', '90s')
    """
    units = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
    unit, seconds = next((u for u in units if step_s % u[1] == 0), units[-1])
    return f"{step_s / seconds:g}{unit}"


def sample(windows: Windows, count: int | None, seed: int) -> Windows:
    """At most ``count`` windows, drawn at random, in their original order; None: all of them."""
    if count is None or count >= len(windows):
        return windows
    rows = np.random.default_rng(seed).permutation(len(windows))[:count]
    return windows.take(np.sort(rows))


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Two disjoint parts, each ``(B,)``; a window may be in neither."""

    fit: BoolArray
    held_out: BoolArray


def split_events(windows: Windows, holdout_fraction: float, seed: int) -> Split:
    """Holds out whole events: related markets move together and must not be in both parts."""
    events, owner = np.unique(windows.labels["event"], return_inverse=True)
    count = max(1, round(holdout_fraction * len(events)))
    held = np.random.default_rng(seed).permutation(len(events)) < count
    return Split(~held[owner], held[owner])


def split_time(windows: Windows, holdout_fraction: float) -> Split:
    """Holds out the latest windows; those whose future reaches over the cut are in neither part."""
    cut = np.quantile(windows.origin_ts, 1 - holdout_fraction)
    ends = windows.origin_ts + windows.future.shape[1] * windows.step_s
    held = windows.origin_ts > cut
    return Split(~held & (ends <= cut), held)
