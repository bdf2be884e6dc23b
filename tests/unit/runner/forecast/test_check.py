from datetime import UTC, datetime

import numpy as np
import pytest

from runner.calibration.coverage import Rolling
from runner.errors import InvalidRequestError
from runner.forecast.check import Breach, Severity, judge, split
from runner.types import Bands
from tests.support.builders import make_request
from tests.support.learning import make_settings

END = datetime(2026, 2, 20, 12, tzinfo=UTC)
BAND = Bands(np.tile([0.4, 0.5, 0.6], (12, 1)))
NAN = np.nan


def checked(*newest: float, bands: Bands = BAND, learned=None, **changes):
    request = make_request(newest_prob=np.array(newest), levels=(0.1, 0.5, 0.9), **changes)
    return judge(request, "ewma", bands, learned or {}, make_settings())


def test_request_ends_before_the_newest_steps() -> None:
    request = make_request(as_of=END, y_prob=np.array([0.1, 0.2, 0.3, 0.4]), horizon_steps=1)

    before = split(request, 2)

    assert before.as_of == datetime(2026, 2, 20, 11, 50, tzinfo=UTC)
    assert before.horizon_steps == 2
    assert before.y_prob.tolist() == [0.1, 0.2]
    assert before.newest_prob.tolist() == [0.3, 0.4]


@pytest.mark.parametrize("y_ts", [None, END.timestamp() - 300 * np.arange(2, -1, -1.0)])
def test_covariates_of_the_newest_steps_become_known_ahead(y_ts) -> None:
    request = make_request(
        as_of=END,
        y_prob=np.array([0.1, 0.2, 0.3]),
        y_ts=y_ts,
        x_past={"v": np.arange(3.0), "w": np.arange(3.0)},
        x_future={"v": np.array([3.0, 4.0])},
        horizon_steps=2,
    )

    before = split(request, 1)

    assert before.horizon_steps == 2
    assert {name: x.tolist() for name, x in before.x_past.items()} == {"v": [0, 1], "w": [0, 1]}
    assert {name: x.tolist() for name, x in before.x_future.items()} == {"v": [2, 3]}


@pytest.mark.parametrize(
    ("minutes_ago", "newest", "left"),
    [
        ([15, 10, 5, 0], [0.3, 0.4], [0.1, 0.2]),
        ([30, 20, 12, 0], [NAN, 0.4], [0.1, 0.2, 0.3, NAN]),  # nothing 10 minutes ago
        ([30, 20, 7, 6], [0.4, NAN], [0.1, 0.2, NAN]),
        ([30, 20, 2, 0], [NAN, 0.4], [0.1, 0.2, NAN]),
    ],
)
def test_series_with_times_are_cut_at_a_time(minutes_ago, newest, left) -> None:
    end = END.timestamp()
    times = np.array([end - 60 * ago for ago in minutes_ago])
    prices = np.array([0.1, 0.2, 0.3, 0.4])
    if minutes_ago[-1]:  # the series ends with a step without a price
        times, prices = np.append(times, end), np.append(prices, NAN)
    request = make_request(as_of=END, y_prob=prices, y_ts=times)

    before = split(request, 2)

    np.testing.assert_array_equal(before.newest_prob, newest)
    np.testing.assert_array_equal(before.y_prob, left)
    assert before.y_ts is not None
    assert before.y_ts[-1] == before.as_of.timestamp() == end - 600


@pytest.mark.parametrize("y_prob", [[0.1, 0.2], [0.1, 0.2, 0.3], [NAN, 0.2, 0.3, 0.4]])
def test_two_prices_are_needed_before_the_newest_steps(y_prob) -> None:
    with pytest.raises(InvalidRequestError, match="at least 2 values before"):
        split(make_request(y_prob=np.array(y_prob)), 2)


@pytest.mark.parametrize(
    ("newest", "breach", "beyond", "run", "severity"),
    [
        ([0.6], "none", 0.0, 0, "none"),
        ([0.7], "above", 0.5, 1, "breach"),
        ([0.3], "below", 0.5, 1, "breach"),
        ([0.7, 0.5], "none", 0.0, 0, "none"),
        ([0.5, 0.7], "above", 0.5, 1, "breach"),
        ([0.3, 0.7], "above", 0.5, 1, "breach"),
        ([0.9, 0.7], "above", 0.5, 2, "run"),
        ([0.7, NAN, 0.7], "above", 0.5, 2, "run"),
        ([0.7] * 11, "above", 0.5, 11, "run"),
        ([0.7] * 12, "above", 0.5, 12, "holds"),
        ([0.7, NAN], "none", 0.0, 0, "none"),
    ],
)
def test_severity_follows_the_run_of_breaches(newest, breach, beyond, run, severity) -> None:
    check = checked(*newest)

    assert (check.breach, check.severity) == (Breach(breach), Severity(severity))
    assert check.beyond_widths == pytest.approx(beyond)
    assert check.run_steps == run
    assert check.price == (None if np.isnan(newest[-1]) else newest[-1])


def test_distance_from_a_band_without_width_is_finite() -> None:
    check = checked(0.51, bands=Bands(np.full((1, 3), 0.5)))

    assert check.beyond_widths == pytest.approx(100.0)


def rolling(scores: int, breaches: int, held: int) -> Rolling:
    away = np.linspace(0, 2, scores)
    found = Rolling().after_scores(np.zeros(scores, dtype=np.int64), away)
    return found.after_breaches(np.arange(breaches) < held)


def test_figures_come_from_the_narrowest_segment_with_enough_outcomes() -> None:
    learned = {
        ("ewma", "width=0.1..1"): rolling(250, 10, 10),
        ("ewma", "all"): rolling(1000, 100, 60),
    }
    request = make_request(newest_prob=np.array([0.695]), levels=(0.1, 0.5, 0.9))

    settings = make_settings(segments=("width",))
    check = judge(request, "ewma", BAND, learned, settings)
    other = judge(request, "mock", BAND, learned, settings)

    assert check.p_value is not None
    assert (check.p_value.segment, check.p_value.sample_size) == ("width=0.1..1", 244)
    assert check.p_value.value == pytest.approx(2 * 0.1, abs=0.05)
    assert check.held_share is not None
    assert check.held_share.value == pytest.approx(0.6, abs=0.02)
    assert (check.held_share.sample_size, check.held_share.segment) == (95, "all")
    assert (other.p_value, other.held_share) == (None, None)


@pytest.mark.parametrize(("scores", "breaches"), [(190, 29), (0, 0)])
def test_too_few_outcomes_tell_nothing(scores, breaches) -> None:
    check = checked(0.7, learned={("ewma", "all"): rolling(scores, breaches, 0)})

    assert (check.p_value, check.held_share) == (None, None)


def test_no_figures_without_a_price_or_without_the_levels_of_the_interval() -> None:
    learned = {("ewma", "all"): rolling(1000, 100, 60)}

    assert checked(NAN, learned=learned).p_value is None
    request = make_request(newest_prob=np.array([0.7]), levels=(0.2, 0.5, 0.8))
    assert judge(request, "ewma", BAND, learned, make_settings()).held_share is None
