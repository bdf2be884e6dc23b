import numpy as np
import pandas as pd
import pytest
import utilsforecast.losses as outside

from serve_app.backtest.scores import LEVELS, Scores, inside, real_moves, score_bands
from tests.support.markets import rough_prices


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
