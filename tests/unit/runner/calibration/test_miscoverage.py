"""Whether the coverage of a source has left its target, looked at after every forecast."""

import numpy as np
import pytest

from runner.calibration.miscoverage import RECENT, CoverageTest, Miscovers
from runner.types import FloatArray

TARGET = 0.8
HALF_AS_WIDE = 0.478  # coverage of half of a Gaussian 80 % interval


def after(shares: FloatArray, test: CoverageTest | None = None) -> list[CoverageTest]:
    states, now = [], test or CoverageTest()
    for share in shares.tolist():
        now = now.after(share, TARGET)
        states.append(now)
    return states


def outcomes(seed: int, coverage: float, forecasts: int) -> FloatArray:
    """One step each."""
    return (np.random.default_rng(seed).random(forecasts) < coverage).astype(np.float64)


def walks(seed: int, width: float, forecasts: int) -> FloatArray:
    """Shares of the 12 steps of random walks inside bands of so many of the right widths."""
    steps = np.random.default_rng(seed).normal(size=(forecasts, 12)).cumsum(axis=1)
    edge = 1.2816 * width * np.sqrt(np.arange(1, 13))
    shares: FloatArray = (np.abs(steps) <= edge).mean(axis=1)
    return shares


def found_at(shares: FloatArray) -> int | None:
    """The forecast after which the source was found, from 1."""
    return next((i for i, now in enumerate(after(shares), 1) if now.miscovers), None)


def test_right_coverage_is_never_found_in_a_hundred_runs_of_5000_points() -> None:
    assert {found_at(outcomes(seed, TARGET, 5000)) for seed in range(100)} == {None}


def test_bands_of_half_the_width_are_found_within_200_forecasts() -> None:
    found = [found_at(outcomes(seed, HALF_AS_WIDE, 200)) for seed in range(100)]
    of_12_steps = [found_at(walks(seed, 0.5, 100)) for seed in range(100)]

    assert None not in found
    assert None not in of_12_steps


def test_late_change_is_found_as_quickly_as_an_early_one() -> None:
    states = after(np.concatenate([walks(0, 1.0, 2000), walks(1, 0.5, 100)]))

    assert [now.miscovers for now in states[:2000]] == [None] * 2000
    assert states[-1].miscovers is Miscovers.UNDER


@pytest.mark.parametrize("coverage", [0.76, 0.84])
def test_coverage_inside_the_tolerance_is_not_found(coverage: float) -> None:
    assert {found_at(outcomes(seed, coverage, 3000)) for seed in range(10)} == {None}


def test_bands_that_hold_everything_are_found_too() -> None:
    assert after(np.ones(250))[-1].miscovers is Miscovers.OVER


def test_source_that_was_found_counts_as_mended_when_its_recent_forecasts_are_right() -> None:
    narrow = after(walks(0, 0.4, 300))[-1]
    mended = after(walks(1, 1.0, 6 * RECENT), narrow)
    states = [now.miscovers for now in mended]

    assert narrow.miscovers is Miscovers.UNDER
    assert states[0] is Miscovers.UNDER
    assert states[-1] is None
    at = states.index(None)
    assert set(states[at:]) == {None}
    assert mended[at].evidence.tolist() == np.ones((2, 3)).tolist()


def test_source_that_stays_wrong_stays_found() -> None:
    states = [now.miscovers for now in after(walks(0, 0.4, 5000))]
    at = states.index(Miscovers.UNDER)

    assert set(states[at:]) == {Miscovers.UNDER}


def test_recent_coverage_is_the_mean_of_the_first_and_follows_the_later_ones() -> None:
    states = after(np.concatenate([np.array([1.0, 0.5]), np.full(10 * RECENT, 0.9)]))

    assert (states[1].forecasts, states[1].recent) == (2, 0.75)
    assert states[-1].recent == pytest.approx(0.9, abs=1e-4)
