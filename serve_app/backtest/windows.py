"""Windows of a backtest: what a forecast sees and what then came; and which are held out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.errors import ConfigError
from runner.types import FloatArray
from serve_app.backtest.market_file import LABELS, Series

BoolArray = NDArray[np.bool_]
MOVING_CHANGES = 12  # a window with as many changes in its past moves; see docs/calibration.md


@dataclass(frozen=True, slots=True)
class Shape:
    """How windows are cut: points in, steps out, and how many origins a series gives."""

    points: int = 288
    horizon_steps: int = 12
    max_origins: int = 40
    stride: int | None = None  # fewest steps between two origins; None: as many as go out

    def origins(self, length: int) -> NDArray[np.intp]:
        """Where forecasts of a series start: evenly spread, the last one as late as can be.

        >>> Shape(points=4, horizon_steps=2, max_origins=3).origins(10).tolist()
        [4, 6, 8]
        """
        last = length - self.horizon_steps
        if last < self.points:
            return np.zeros(0, dtype=np.intp)
        apart = self.stride or self.horizon_steps
        count = min(self.max_origins, (last - self.points) // apart + 1)
        return np.unique(np.linspace(self.points, last, count).astype(np.intp))


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """B windows.

    Attributes:
        past: ``(B, T)`` probabilities.
        future: ``(B, H)`` probabilities.
        origin_ts: ``(B,)`` time of the last value that is seen, POSIX seconds.
        step_s: ``(B,)``.
        labels: each ``(B,)`` text: market_id, event, platform, category, liquidity.
    """

    past: FloatArray
    future: FloatArray
    origin_ts: FloatArray
    step_s: FloatArray
    labels: Mapping[str, NDArray[np.str_]]

    def __len__(self) -> int:
        return len(self.past)

    def take(self, rows: NDArray[np.intp] | BoolArray | slice) -> "Windows":
        """Some of them."""
        labels = {name: values[rows] for name, values in self.labels.items()}
        return Windows(
            self.past[rows], self.future[rows], self.origin_ts[rows], self.step_s[rows], labels
        )

    @property
    def changes(self) -> NDArray[np.intp]:
        """How often each past changed, ``(B,)``."""
        counts: NDArray[np.intp] = np.count_nonzero(np.diff(self.past, axis=1), axis=1)
        return counts

    @property
    def moving(self) -> BoolArray:
        """Windows whose past moved often enough to say something about the width of a band."""
        return self.changes >= MOVING_CHANGES


def cut_windows(series: Sequence[Series], shape: Shape) -> Windows:
    """Every window of the series; none whose outcomes were carried forward over a gap.

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
            f"No series has {shape.points} steps to look at and {shape.horizon_steps} to forecast; "
            "ask for fewer with --points or --horizon."
        )
    labels = {
        name: np.array([_label(one, name) for one in series])[owner]
        for name in ("market_id", *LABELS)
    }
    return Windows(np.array(past), np.array(future), np.array(when), np.array(step_s), labels)


def _label(series: Series, name: str) -> str:
    """What the file says; a market that belongs to no event is one of its own."""
    if name == "market_id":
        return series.market_id
    return series.labels.get(name) or (series.market_id if name == "event" else "")


def freq(step_s: float) -> str:
    """A step as requests and segments write it.

    >>> freq(300.0), freq(7200.0), freq(86400.0), freq(90.0)
    ('5m', '2h', '1d', '90s')
    """
    units = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
    unit, seconds = next((u for u in units if step_s % u[1] == 0), units[-1])
    return f"{step_s / seconds:g}{unit}"


def sample(windows: Windows, count: int | None, seed: int) -> Windows:
    """At most ``count`` windows, drawn by chance and in their old order; None: all of them."""
    if count is None or count >= len(windows):
        return windows
    rows = np.random.default_rng(seed).permutation(len(windows))[:count]
    return windows.take(np.sort(rows))


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Two parts that share nothing, each ``(B,)``; a window may be in neither."""

    fit: BoolArray
    held_out: BoolArray


def split_events(windows: Windows, holdout_fraction: float, seed: int) -> Split:
    """Whole events are held out: related markets move together and must not be on both sides."""
    events, owner = np.unique(windows.labels["event"], return_inverse=True)
    count = max(1, round(holdout_fraction * len(events)))
    held = np.random.default_rng(seed).permutation(len(events)) < count
    return Split(~held[owner], held[owner])


def split_time(windows: Windows, holdout_fraction: float) -> Split:
    """The latest windows are held out; those whose outcomes reach into them are in neither part."""
    cut = np.quantile(windows.origin_ts, 1 - holdout_fraction)
    ends = windows.origin_ts + windows.future.shape[1] * windows.step_s
    held = windows.origin_ts > cut
    return Split(~held & (ends <= cut), held)
