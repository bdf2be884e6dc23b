"""Load curves: how many requests per second at which moment."""

import pytest

from loadtest.shapes import CURVES, rate_at


def rates(name: str, *moments: float) -> list[float | None]:
    return [rate_at(name, 10, 100, moment / 60) for moment in moments]


def test_steady_is_steady():
    assert rates("steady", 0, 30, 59.9) == [10, 10, 10]


def test_step_climbs_in_three_steps():
    assert rates("step", 0, 19.9, 20, 39.9, 40, 59.9) == [10, 10, 55, 55, 100, 100]


def test_spike_peaks_in_the_middle_and_comes_back():
    assert rates("spike", 0, 26, 27, 32, 34, 59) == [10, 10, 100, 100, 10, 10]


def test_ramp_is_a_straight_line():
    assert rates("ramp", 0, 30) == [10, 55]


@pytest.mark.parametrize("name", CURVES)
def test_every_curve_ends(name: str):
    assert rates(name, 60, -1) == [None, None]
