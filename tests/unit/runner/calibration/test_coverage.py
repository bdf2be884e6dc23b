import numpy as np
import pytest

from runner.calibration.coverage import Rolling, coverage_row
from tests.support.learning import make_rolling

INSIDE = [1.0, 1.0, 0.2, 0.0, 1.0, 1.0, 0.1]
OUTSIDE = [1.0, 0.0, 0.4, 1.0, 1.0, 0.0, 0.3]
UNCALIBRATED = [1.0, 1.0, 0.2, 0.0, 0.0, 0.0, 0.0]


def test_figures_are_shares_of_all_and_of_calibrated_outcomes() -> None:
    rolling = Rolling().after(np.array([UNCALIBRATED, UNCALIBRATED, OUTSIDE, INSIDE]), 10**9)

    row = coverage_row("ewma", "all", rolling)

    assert (row.source, row.segment, row.points) == ("ewma", "all", 4)
    assert row.coverage == pytest.approx(0.75)
    assert row.mean_width == pytest.approx(0.25)
    assert row.breach_rate == pytest.approx(0.25)
    assert row.calibrated_coverage == pytest.approx(0.5)
    assert row.calibrated_mean_width == pytest.approx(0.2)
    none = coverage_row("ewma", "all", make_rolling(3))
    assert (none.calibrated_coverage, none.calibrated_mean_width) == (None, None)


def test_outcomes_added_together_give_the_sums_of_one_after_the_other() -> None:
    rows = np.random.default_rng(3).random((20, 7))
    together = make_rolling(5).after(rows, 8)
    one_by_one = make_rolling(5)
    for row in rows:
        one_by_one = one_by_one.after(row[None], 8)

    np.testing.assert_allclose(together.sums, one_by_one.sums)
    assert together.points == one_by_one.points == 25


def test_old_outcomes_lose_their_weight() -> None:
    rolling = Rolling().after(np.array([OUTSIDE] * 50), 10).after(np.array([INSIDE] * 60), 10)

    assert coverage_row("ewma", "all", rolling).coverage > 0.99
    assert rolling.points == 110
