import numpy as np
import pandas as pd
import pytest
import utilsforecast.losses as outside

from serve_app.backtest.report import cost_of_limits, limited
from serve_app.backtest.scores import (
    LEVELS,
    overall,
    real_moves,
    reliability,
    score_bands,
    segments,
    summarise,
)
from tests.support.builders import make_config
from tests.support.markets import made_windows, rough_prices

PRICES = rough_prices(40, 60)
WINDOWS = made_windows(PRICES[:, :50], PRICES[:, 50:], platform=["a", "b"] * 20)
FLAT_BANDS = np.tile([0.35, 0.4, 0.5, 0.6, 0.65], (1, 4, 1))
BANDS = np.clip(PRICES[:, 49, None, None] + np.linspace(-0.1, 0.1, 5) * np.ones((1, 10, 1)), 0, 1)


def test_scores_are_those_of_utilsforecast() -> None:
    actual = rough_prices(30, 12)
    chance = np.random.default_rng(2)  # rounded: some edges lie on the price itself
    bands: np.ndarray = np.round(np.sort(chance.uniform(0, 1, (30, 12, len(LEVELS))), axis=2), 2)
    mean = {name: values.mean(axis=1) for name, values in score_bands(bands, actual).items()}
    columns = ("m-lo-90", "m-lo-80", "m", "m-hi-80", "m-hi-90")
    frame = pd.DataFrame(bands.reshape(-1, len(LEVELS)), columns=columns).assign(
        unique_id=np.repeat(np.arange(30), 12), y=actual.ravel()
    )
    levels = {"models": {"m": list(columns[1:4])}, "quantiles": np.array([0.1, 0.5, 0.9])}
    pairs = [
        (mean["pinball"], outside.mqloss(frame, **levels)),
        (mean["interval_80"], outside.winkler_score(frame, models=["m"], level=80)),
        (mean["interval_90"], outside.winkler_score(frame, models=["m"], level=90)),
        (mean["covered_80"], outside.coverage(frame, models=["m"], level=80)),
        (mean["absolute_error"], outside.mae(frame, models=["m"])),
        (np.sqrt(mean["squared_error"]), outside.rmse(frame, models=["m"])),
    ]

    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs.sort_values("unique_id")["m"])


def test_crps_and_width_by_hand() -> None:
    scores = score_bands(np.array([[[0.1, 0.2, 0.4, 0.5, 0.6]]]), np.array([[0.55]]))

    losses = [0.05 * 0.45, 0.1 * 0.35, 0.5 * 0.15, 0.9 * 0.05, 0.05 * 0.05]  # at LEVELS
    assert scores["crps"].item() == pytest.approx(2 / 5 * sum(losses))
    assert scores["width_80"].item() == pytest.approx(0.3)
    assert (scores["covered_80"].item(), scores["covered_90"].item()) == (0, 1)


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        ([0.5, 0.7, 0.5, 0.8], [np.nan, 1, np.nan, np.nan]),  # the first breach alone counts
        ([0.5, 0.7, 0.8, 0.6], [np.nan, 0, np.nan, np.nan]),  # back on the edge: a spike
        ([0.3, 0.5, 0.5, 0.2], [1, np.nan, np.nan, np.nan]),
        ([0.3, 0.5, 0.5, 0.9], [0, np.nan, np.nan, np.nan]),  # ended on the other side
        ([0.5, 0.5, 0.5, 0.9], [np.nan] * 4),  # nothing comes after the last step
        ([0.5, 0.5, 0.5, 0.5], [np.nan] * 4),
    ],
)
def test_a_breach_is_real_when_the_price_stays_beyond_the_edge(
    prices: list[float], expected: list[float]
) -> None:
    np.testing.assert_array_equal(real_moves(FLAT_BANDS, np.array([prices])), [expected])


def test_every_window_is_in_one_segment_of_each_kind() -> None:
    past = np.vstack([PRICES[:, :50], np.ones(50)])  # a price of 1 is in the highest segment
    windows = made_windows(past, past[:, :10], platform=["a"] * 41)
    found: dict[str, list[np.ndarray]] = {}
    for by, _, where in segments(windows):
        found.setdefault(by, []).append(where)

    for by in ("platform", "price", "step"):
        assert (np.sum(found[by], axis=0) == 1).all()
    assert (np.sum(found["changes"], axis=0) == (windows.changes >= 12)).all()


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
