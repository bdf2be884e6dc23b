import numpy as np
import pytest

from serve_app.backtest.calibration import Answers, Calibrator, check
from serve_app.backtest.windows import Split, Windows
from tests.support.builders import make_config
from tests.support.markets import made_windows

SETTINGS = make_config(conformal={"segments": (), "min_samples": 50}).conformal
STEPS = 4


def noise(count: int, wrong_by: float, seed: int = 3) -> tuple[Windows, Answers]:
    """Outcomes with a spread of a cent; bands ``wrong_by`` times as wide as they should be."""
    chance = np.random.default_rng(seed)
    past = 0.5 + 0.01 * chance.standard_normal((count, 30))
    future = 0.5 + 0.01 * chance.standard_normal((count, STEPS))
    z = np.array([-1.6449, -1.2816, 0, 1.2816, 1.6449])
    bands = np.tile(0.5 + wrong_by * 0.01 * z, (count, STEPS, 1))
    return made_windows(past, future), Answers("ewma", bands, np.ones(count, dtype=bool))


def halves(count: int) -> Split:
    first = np.arange(count) < count // 2
    return Split(first, ~first)


def test_windows_that_do_not_move_or_are_of_another_model_are_not_fitted() -> None:
    windows, answers = noise(200, 1.0)
    windows.past[:50] = 0.5
    answers.usable[50:80] = False
    state = Calibrator(windows, SETTINGS).fitted([answers], np.ones(200, dtype=bool))

    assert state.tracks["ewma"]["all"].sample_size.tolist() == [120] * STEPS


def test_the_check_compares_before_and_after() -> None:
    windows, baseline = noise(1000, 0.5)
    model = Answers("fracast-0", noise(1000, 2.0)[1].bands, baseline.usable)
    found = check(Calibrator(windows, SETTINGS), [baseline, model], [halves(1000)])
    rows = {row["name"]: row for row in found["rows"]}

    assert list(rows) == [
        "ewma, before",
        "ewma, calibrated",
        "fracast-0, before",
        "fracast-0, calibrated",
    ]
    assert rows["ewma, before"]["coverage"] < 0.6
    assert rows["fracast-0, before"]["coverage"] > 0.95
    for name in ("ewma, calibrated", "fracast-0, calibrated"):
        assert rows[name]["coverage"] == pytest.approx(0.8, abs=0.03)
        assert rows[name]["interval_score"] < rows["ewma, before"]["interval_score"]
