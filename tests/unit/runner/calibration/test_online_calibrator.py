import numpy as np
import pytest

from runner.calibration.coverage import Actual, CoverageRow, Learned, LearningEvent, OutcomeCounts
from runner.calibration.online_calibrator import OnlineCalibrator
from runner.config.conformal import Dimension
from runner.types import Bands
from tests.support.learning import (
    START,
    STEP_S,
    band,
    make_learner,
    make_seen,
    make_state,
)


def row(learner: OnlineCalibrator, segment: str = "all", source: str = "ewma") -> CoverageRow:
    (found,) = (r for r in learner.report().rows if (r.source, r.segment) == (source, segment))
    return found


def sizes(learner: OnlineCalibrator, source: str = "ewma", segment: str = "all") -> list[int]:
    return list(learner.learned.state.tracks[source][segment].sample_size)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_values_of_requests_score_earlier_forecasts(batch_size: int) -> None:
    learner = make_learner()
    records = [make_seen(0, 0.5), make_seen(1, 0.5, 0.55), make_seen(2, 0.5, 0.55, 0.7)]
    for start in range(0, 3, batch_size):
        learner.learn(records[start : start + batch_size])
        learner.learn(records[start : start + batch_size])  # again, from another replica

    assert (
        learner.report().counts[LearningEvent.SCORED] == 3
    )  # two steps of the first forecast, one of the second
    assert sizes(learner) == [2, 1]
    assert row(learner).coverage == pytest.approx(1 / 3, abs=0.001)
    assert learner.report().counts[LearningEvent.KNOWN] == 3


def test_market_with_too_few_changes_is_not_scored() -> None:
    learner = make_learner(min_changes=5)
    learner.learn([make_seen(0, 0.5)])
    learner.learn([make_seen(1, 0.5, 0.6)])

    report = learner.report()
    assert report.counts == {LearningEvent.UNMOVED: 2}
    assert (report.markets, report.waiting_forecasts) == (0, 0)


@pytest.mark.parametrize("levels", [(0.2, 0.5, 0.9), (0.1, 0.2, 0.8), (0.1, 0.9, 0.95)])
def test_forecast_without_the_calibrated_interval_is_not_scored(levels: tuple[float, ...]) -> None:
    learner = make_learner()
    learner.learn([make_seen(0, 0.5, levels=levels)])
    learner.learn([make_seen(1, 0.5, 0.5, levels=levels)])

    unscorable = learner.report().counts.get(LearningEvent.UNSCORABLE, 0)
    assert unscorable == (0 if levels == (0.1, 0.9, 0.95) else 2)


def test_coverage_is_of_the_answered_band_and_learning_of_the_one_before_its_limits() -> None:
    before, answered = band(0.5, 0.01), band(0.5, 0.1)
    limited = Bands(answered.y_prob, ("interval_widened",), before.y_prob)
    learner = make_learner(Learned(make_state(factor=2.0), {}))
    learner.learn([make_seen(0, 0.5, bands=limited)])
    learner.learn([make_seen(1, 0.5, 0.515)])

    assert row(learner).coverage == 1.0
    assert row(learner).mean_width == pytest.approx(0.2)
    assert row(learner).calibrated_coverage == 1.0
    assert row(learner).calibrated_mean_width == pytest.approx(0.04)
    assert learner.learned.state.tracks["ewma"]["all"].factors[0, 1] < 2.0


def test_breach_is_an_outcome_outside_the_outermost_levels() -> None:
    wide = Bands(np.tile([0.3, 0.4, 0.5, 0.6, 0.7], (3, 1)))
    learner = make_learner()
    learner.learn([make_seen(0, 0.5, bands=wide, levels=(0.05, 0.1, 0.5, 0.9, 0.95))])
    learner.learn([make_seen(2, 0.5, 0.65, 0.75)])

    assert row(learner).coverage == 0.0
    assert row(learner).breach_rate == pytest.approx(0.5, abs=0.001)


def test_calibrated_band_is_that_of_the_time_of_the_forecast() -> None:
    learner = make_learner(Learned(make_state(factor=1.0), {}), online_rate=1.0)
    learner.learn([make_seen(0, 0.5), make_seen(1, 0.5)])
    learner.learn([make_seen(2, 0.5, 0.62)])

    # Both forecasts were issued with factor 1; the first miss must not help the second.
    assert row(learner).calibrated_coverage == pytest.approx(1 / 3, abs=0.01)


def test_outcome_updates_all_segments_of_its_source() -> None:
    learner = make_learner(segments=(Dimension.LIQUIDITY, Dimension.FREQ))
    for source, liquidity in (("ewma", "high"), ("fracast-0", None)):
        learner.learn([make_seen(0, 0.5, source=source, liquidity=liquidity)])
    learner.learn([make_seen(1, 0.5, 0.5)])

    assert [(r.source, r.segment) for r in learner.report().rows] == [
        ("ewma", "all"),
        ("ewma", "freq=5m"),
        ("ewma", "liquidity=high|freq=5m"),
        ("fracast-0", "all"),
        ("fracast-0", "freq=5m"),
    ]


def test_steps_beyond_the_limit_are_not_scored() -> None:
    learner = make_learner(max_steps=2)
    learner.learn([make_seen(0, 0.5, bands=band(0.5, 0.1, steps=5))])
    learner.learn([make_seen(5, 0.5, *[0.5] * 5)])

    assert sizes(learner) == [1, 1]


def test_too_many_segments_drop_the_least_recently_updated_one() -> None:
    learner = make_learner(max_segments=2, segments=(Dimension.LIQUIDITY,))
    learner.learn([make_seen(0, 0.5, market=m, liquidity=m) for m in ("low", "high")])
    learner.learn([make_seen(1, 0.5, market="low")])
    learner.learn([make_seen(1, 0.5, market="high")])

    assert [r.segment for r in learner.report().rows] == ["all", "liquidity=high"]
    assert sorted(learner.learned.state.tracks["ewma"]) == ["all", "liquidity=high"]
    assert learner.report().counts[LearningEvent.DROPPED_SEGMENTS] == 1


def outcome(step: float, value: float, market: str = "m-1") -> Actual:
    return Actual(market, START + step * STEP_S, value)


def test_sent_outcome_scores_every_forecast_of_its_time() -> None:
    learner = make_learner()
    learner.learn([make_seen(0, 0.5), make_seen(1, 0.5)])  # the second scores one step already

    counts = learner.outcomes([outcome(2, 0.55), outcome(3, 0.7)])

    assert counts == OutcomeCounts(accepted=2, scored=2, unknown=0, points=4)
    assert sizes(learner) == [2, 2, 1]


@pytest.mark.parametrize(
    "sent",
    [outcome(9, 0.5), outcome(0, 0.5), outcome(1, 0.5, "other"), outcome(1.5, 0.5)],
    ids=["too late", "before", "other market", "between steps"],
)
def test_outcomes_of_unknown_forecasts_are_counted_and_ignored(sent: Actual) -> None:
    learner = make_learner()
    learner.learn([make_seen(0, 0.5)])

    assert learner.outcomes([sent, outcome(1, 0.5)]) == OutcomeCounts(2, 1, 1, 1)
    assert learner.report().counts[LearningEvent.UNKNOWN_OUTCOMES] == 1


def test_repeated_outcome_scores_nothing() -> None:
    learner = make_learner()
    learner.learn([make_seen(0, 0.5)])

    assert learner.outcomes([outcome(1, 0.5), outcome(1, 0.6)]).scored == 1
    assert learner.outcomes([outcome(1, 0.5)]).scored == 0
    learner.learn([make_seen(1, 0.5)])
    assert learner.report().counts[LearningEvent.SCORED] == 1


def stream(learner: OnlineCalibrator, sigmas: np.ndarray, markets: int, seed: int) -> np.ndarray:
    """Whether each scored point was inside its calibrated band, in the order of scoring.

    Markets jump about 0.5 with the current sigma; their bands are always those of the first one,
    so that only the learner can follow.
    """
    draws = np.random.default_rng(seed).normal(0.5, 1.0, (len(sigmas), markets))
    bands = band(0.5, 1.2816 * sigmas[0])
    inside: list[float] = []
    for step, sigma in enumerate(sigmas):
        before = learner.learned.rolling.get(("ewma", "all"))
        value = 0.5 + sigma * (draws[step] - 0.5)
        learner.learn(
            [make_seen(step, v, market=f"m-{m}", bands=bands) for m, v in enumerate(value)]
        )
        after = learner.learned.rolling.get(("ewma", "all"))
        if after is not None:
            points = after.points - (before.points if before else 0)
            total = after.sums[5] - (before.sums[5] if before else 0)
            inside += [total / points] * points
    return np.array(inside)


@pytest.mark.parametrize("seed", range(2))
def test_coverage_is_restored_two_hundred_outcomes_after_a_threefold_change(seed: int) -> None:
    learner = make_learner(rolling_points=10**9, min_samples=50)
    quiet, wild = 200, 600
    sigmas = np.repeat([0.01, 0.03], [quiet, wild])

    inside = stream(learner, sigmas, markets=4, seed=seed)

    steps = 3
    change = quiet * 4 * steps  # a segment's points, each step for itself
    settled = change + 200 * steps
    assert inside[change : change + 40 * steps].mean() < 0.6
    assert inside[settled:].mean() == pytest.approx(0.8, abs=0.02)
    for start in range(settled, settled + 3000, 1000):
        assert inside[start : start + 1000].mean() == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize(
    ("prices", "breaches"),
    [
        ([0.7] * 12, [1, 1]),
        ([0.7] * 11 + [0.5], [1, 0]),
        ([0.7] * 11 + [0.3], [1, 0]),  # outside on the other side
        ([0.3] * 12, [1, 1]),
        ([0.5] * 11 + [0.7], [0, 0]),  # no breach of the first step
        ([0.7] * 11, [0, 0]),  # not known yet
    ],
)
@pytest.mark.parametrize("in_one", [True, False])
def test_breach_of_the_first_step_has_held_if_the_price_is_still_outside_at_the_twelfth(
    prices: list[float], breaches: list[int], in_one: bool
) -> None:
    learner = make_learner(max_markets=1)
    learner.learn([make_seen(0, 0.5, bands=band(0.5, 0.1, steps=12))])
    for end in [len(prices)] if in_one else range(1, len(prices) + 1):
        learner.outcomes(
            [
                Actual("m-1", START + (step + 1) * STEP_S, price)
                for step, price in enumerate(prices[:end])
                if in_one or step == end - 1
            ]
        )

    np.testing.assert_allclose(learner.learned.rolling["ewma", "all"].breaches, breaches, atol=0.01)


def test_scores_of_all_segments_are_kept() -> None:
    learner = make_learner(segments=(Dimension.FREQ,))
    learner.learn([make_seen(0, 0.5), make_seen(1, 0.5, 0.55)])

    for segment in ("freq=5m", "all"):
        scores = learner.learned.rolling["ewma", segment].scores
        assert scores.p_value(0, 0.5)[1] == 1.0
