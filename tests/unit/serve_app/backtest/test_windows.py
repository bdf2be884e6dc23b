import numpy as np
import pytest

from runner.errors import ConfigError
from serve_app.backtest.market_file import Series
from serve_app.backtest.windows import Shape, cut_windows, sample, split_events, split_time
from tests.support.markets import made_windows


def series(steps: int, name: str = "a", unknown: tuple[int, ...] = (), **labels: str) -> Series:
    known = np.ones(steps, dtype=bool)
    known[list(unknown)] = False
    return Series(name, 1000.0, 60.0, np.linspace(0, 1, steps), known, labels)


@pytest.mark.parametrize(
    ("shape", "length", "origins"),
    [
        (Shape(points=20, horizon_steps=5, max_origins=4), 100, [20, 45, 70, 95]),
        (Shape(points=10, horizon_steps=4, stride=20), 60, [10, 33, 56]),
        (Shape(points=10, horizon_steps=4), 13, []),
    ],
)
def test_origins_are_spread_evenly_and_the_last_forecast_ends_with_the_series(
    shape: Shape, length: int, origins: list[int]
) -> None:
    assert shape.origins(length).tolist() == origins


def test_a_window_is_the_past_and_the_future_of_an_origin() -> None:
    windows = cut_windows([series(20)], Shape(points=4, horizon_steps=2, max_origins=2))

    assert windows.past[0].tolist() == np.linspace(0, 1, 20)[:4].tolist()
    assert windows.future[0].tolist() == np.linspace(0, 1, 20)[4:6].tolist()
    assert windows.origin_ts.tolist() == [1000 + 60 * 3, 1000 + 60 * 17]


def test_windows_whose_outcome_was_carried_forward_are_left_out() -> None:
    shape = Shape(points=4, horizon_steps=2, max_origins=100)
    windows = cut_windows([series(12, unknown=(7,))], shape)

    assert windows.origin_ts.tolist() == [1000 + 60 * (origin - 1) for origin in (4, 8, 10)]


def test_series_that_are_too_short_are_refused_when_there_is_no_other() -> None:
    with pytest.raises(ConfigError, match="--points"):
        cut_windows([series(9)], Shape(points=8, horizon_steps=2))


def test_a_market_without_an_event_is_one_of_its_own() -> None:
    shape = Shape(points=4, horizon_steps=2, max_origins=1)
    windows = cut_windows([series(9), series(9, "b", event="e")], shape)

    assert windows.labels["event"].tolist() == ["a", "e"]
    assert windows.labels["market_id"].tolist() == ["a", "b"]


def test_a_window_moves_with_twelve_changes() -> None:
    past = np.full((2, 40), 0.5)
    past[0, :13] = np.arange(13) / 100  # twelve changes among themselves, one to the rest
    past[1, :12] = np.arange(12) / 100
    past[:, 13:] = past[:, 12:13]

    assert made_windows(past, past[:, :2]).changes.tolist() == [12, 12]
    assert made_windows(past[:, 1:], past[:, :2]).moving.tolist() == [False, False]
    assert made_windows(past, past[:, :2]).moving.tolist() == [True, True]


def test_a_sample_is_the_same_for_the_same_seed_and_keeps_the_order() -> None:
    windows = made_windows(np.arange(60.0).reshape(30, 2) / 60, np.zeros((30, 1)))
    once, again = sample(windows, 10, seed=1), sample(windows, 10, seed=1)

    assert once.past.tolist() == again.past.tolist()
    assert (np.diff(once.origin_ts) > 0).all()
    assert len(sample(windows, None, 1)) == len(sample(windows, 99, 1)) == 30


def test_held_out_events_share_nothing_with_the_others() -> None:
    events = [f"e{i % 10}" for i in range(50)]
    windows = made_windows(np.zeros((50, 2)), np.zeros((50, 1)), event=events)
    split = split_events(windows, 0.3, seed=3)
    held = set(windows.labels["event"][split.held_out])

    assert len(held) == 3
    assert not held & set(windows.labels["event"][split.fit])
    assert (split.fit ^ split.held_out).all()


def test_a_split_in_time_leaves_out_what_reaches_over_the_cut() -> None:
    windows = made_windows(np.zeros((10, 2)), np.zeros((10, 24)))  # two hours ahead, hourly origins
    split = split_time(windows, 0.5)

    assert split.held_out.tolist() == [False] * 5 + [True] * 5
    assert split.fit.tolist() == [True] * 3 + [False] * 7
