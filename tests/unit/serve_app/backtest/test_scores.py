import numpy as np
import pandas as pd
import pytest
import utilsforecast.losses as outside

from serve_app.backtest.report import cost_of_limits, limited
from serve_app.backtest.scores import (
    LEVELS,
    Scores,
    inside,
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
BANDS = np.clip(PRICES[:, 49, None, None] + np.linspace(-0.1, 0.1, 5) * np.ones((1, 10, 1)), 0, 1)


@pytest.fixture(scope="module")
def bands() -> np.ndarray:
    """Random, ordered, some of them with edges on the price itself."""
    chance = np.random.default_rng(2)
    return np.round(np.sort(chance.uniform(0, 1, (30, 12, len(LEVELS))), axis=2), 2)


@pytest.fixture(scope="module")
def actual() -> np.ndarray:
    return rough_prices(30, 12)


@pytest.fixture(scope="module")
def scores(bands: np.ndarray, actual: np.ndarray) -> Scores:
    return score_bands(bands, actual)


@pytest.fixture(scope="module")
def frame(bands: np.ndarray, actual: np.ndarray) -> pd.DataFrame:
    """The same as utilsforecast wants it: a row for each window and step."""
    columns = {f"q{level}": bands[..., i].ravel() for i, level in enumerate(LEVELS)}
    ids = np.repeat(np.arange(len(actual)), actual.shape[1])
    return pd.DataFrame({"unique_id": ids, "y": actual.ravel(), **columns}).assign(
        **{"m-lo-80": columns["q0.1"], "m-hi-80": columns["q0.9"], "m": columns["q0.5"]},
        **{"m-lo-90": columns["q0.05"], "m-hi-90": columns["q0.95"]},
    )


def test_scores_are_those_of_utilsforecast(scores: Scores, frame: pd.DataFrame) -> None:
    levels = {"models": {"m": ["q0.1", "q0.5", "q0.9"]}, "quantiles": np.array([0.1, 0.5, 0.9])}
    mean = {name: values.mean(axis=1) for name, values in scores.items()}
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


def test_scores_by_hand() -> None:
    bands = np.array([[[0.1, 0.2, 0.4, 0.5, 0.6]]])
    scores = score_bands(bands, np.array([[0.55]]))

    losses = [0.1 * 0.35, 0.5 * 0.15, 0.9 * 0.05]  # at 0.1, 0.5 and 0.9
    assert scores["pinball"].item() == pytest.approx(np.mean(losses))
    assert scores["interval_80"].item() == pytest.approx(0.3 + 10 * 0.05)
    assert scores["interval_90"].item() == pytest.approx(0.5)
    assert (scores["covered_80"].item(), scores["covered_90"].item()) == (0, 1)
    assert scores["width_80"].item() == pytest.approx(0.3)
    assert scores["crps"].item() == pytest.approx(2 / 5 * (sum(losses) + 0.05 * 0.45 + 0.05 * 0.05))


def test_an_edge_belongs_to_the_band() -> None:
    edge = np.array([0.3, 0.5, 0.3 - 1e-8, 0.5 + 1e-8])

    assert inside(np.array(0.3), np.array(0.5), edge).tolist() == [True, True, False, False]


def flat_bands(steps: int) -> np.ndarray:
    return np.tile([0.35, 0.4, 0.5, 0.6, 0.65], (1, steps, 1))


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
    np.testing.assert_array_equal(real_moves(flat_bands(4), np.array([prices])), [expected])


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
