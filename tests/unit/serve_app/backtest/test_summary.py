import numpy as np
import pytest

from serve_app.backtest.report import cost_of_limits, limited
from serve_app.backtest.scores import overall, reliability, score_bands, segments, summarise
from tests.support.builders import make_config
from tests.support.markets import made_windows, rough_prices

PRICES = rough_prices(40, 60)
WINDOWS = made_windows(PRICES[:, :50], PRICES[:, 50:], platform=["a", "b"] * 20)
BANDS = np.clip(PRICES[:, 49, None, None] + np.linspace(-0.1, 0.1, 5) * np.ones((1, 10, 1)), 0, 1)


def test_every_window_is_in_one_segment_of_each_kind() -> None:
    found: dict[str, list[np.ndarray]] = {}
    for by, _, where in segments(WINDOWS):
        found.setdefault(by, []).append(where)

    for by in ("platform", "price", "step"):
        assert (np.sum(found[by], axis=0) == 1).all()
    active = np.sum(found["changes"], axis=0)
    assert (active == (WINDOWS.changes >= 12)).all()


def test_a_price_of_one_is_in_the_highest_segment() -> None:
    windows = made_windows(np.ones((1, 5)), np.ones((1, 2)))
    where = {name: part for by, name, part in segments(windows) if by == "price"}

    assert where["0.95..1"].tolist() == [True]


def test_a_summary_is_the_mean_of_the_scores() -> None:
    found, scores = summarise(BANDS, WINDOWS), score_bands(BANDS, WINDOWS.future)
    moving = WINDOWS.moving

    assert found["all"]["pinball"] == pytest.approx(scores["pinball"].mean())
    assert found["moving"]["coverage_80"] == pytest.approx(scores["covered_80"][moving].mean())
    assert found["moving"]["breach_rate"] == pytest.approx(1 - found["moving"]["coverage_80"])
    assert found["all"]["rmse"] == pytest.approx(np.sqrt(scores["squared_error"].mean()))
    np.testing.assert_allclose(found["all"]["steps"]["width_80"], scores["width_80"].mean(axis=0))
    platform = next(s for s in found["segments"] if s["name"] == "b")
    assert platform["all"]["windows"] == 20
    assert platform["all"]["mae"] == pytest.approx(scores["absolute_error"][1::2].mean())


def test_segments_without_windows_have_no_scores() -> None:
    found = overall(score_bands(BANDS, WINDOWS.future), np.zeros(40, dtype=bool))

    assert (found["windows"], found["pinball"], found["real_moves"]) == (0, None, None)


def test_outcomes_on_a_level_count_half() -> None:
    bands = np.tile([0.1, 0.2, 0.3, 0.4, 0.5], (4, 1, 1))
    rows = reliability(bands, np.array([[0.3], [0.3], [0.15], [0.45]]))

    assert [row["share_below"] for row in rows] == [0, 0.25, 0.5, 0.75, 1]


def test_limits_apply_to_the_default_levels_of_requests() -> None:
    narrow = np.array([[[0.498, 0.499, 0.5, 0.501, 0.502]]])
    window, limits = made_windows(np.array([[0.4, 0.5]]), np.array([[0.5]])), make_config().bands

    np.testing.assert_allclose(limited(narrow, window, limits), [[[0.49, 0.49, 0.5, 0.51, 0.51]]])


def test_limits_are_compared_with_bands_of_any_width() -> None:
    free, fixed, own = cost_of_limits(BANDS / 100, WINDOWS, make_config().bands)

    assert [row["limits"] for row in (fixed, own)] == ["0.02 to 0.9", "0.02 to 0.9, or 1 own ticks"]
    assert free["all"]["width_80"] < 0.01
    assert own["all"]["width_80"] == pytest.approx(0.01)  # these prices are whole cents
    assert fixed["all"]["width_80"] == pytest.approx(0.02)
