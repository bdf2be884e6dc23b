"""Forecasts of models are scored beside the baseline's, from the windows of later requests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from runner.calibration.coverage import ForecastRecord, Learned
from runner.calibration.online_calibrator import OnlineCalibrator
from runner.calibration.paired_scores import Calibrated, PairedScores
from runner.calibration.routing import Advice
from runner.calibration.skill import EVERYTHING
from runner.types import FloatArray
from tests.support.learning import NOTHING, STEP_S, band, make_seen, make_settings, make_state

MODEL = "fracast-0"


def baseline(records: Sequence[ForecastRecord]) -> list[FloatArray]:
    return [band(0.5, 0.2, len(record.bands.y_prob)).y_prob for record in records]


def nothing_calibrated(record: ForecastRecord) -> None:
    return None


def make_scores(calibrated: Calibrated = nothing_calibrated, **changes: Any) -> PairedScores:
    return PairedScores(baseline, calibrated, NOTHING, make_settings(**changes))


def seen(step: int, *window: float | None, **changes: Any) -> ForecastRecord:
    return make_seen(step, *window, **{"source": MODEL, **changes})


def forecasts(scores: PairedScores, source: str = MODEL) -> int:
    known = scores.known.get((source, EVERYTHING))
    return 0 if known is None else known.forecasts


def test_forecast_is_scored_once_when_its_last_step_is_known() -> None:
    scores = make_scores()
    scores.learn([seen(0, 0.5)])
    scores.learn([seen(2, 0.5, 0.55, 0.6)])
    assert forecasts(scores) == 0
    scores.learn([seen(3, 0.5, 0.55, 0.6, 0.65)])
    scores.learn([seen(3, 0.5, 0.55, 0.6, 0.65)])  # again, from another replica

    assert forecasts(scores) == 1
    sums = scores.known[MODEL, EVERYTHING].sums
    y = np.array([0.55, 0.6, 0.65])
    expected = [_loss(y, 0.1), _loss(y, 0.2)]
    assert sums[1:3] == pytest.approx(expected)
    assert sums[4:6] == pytest.approx([2 / 3, 1.0])  # 0.65 is over 0.6
    assert sums[6:8] == pytest.approx([0.2 + 10 * 0.05 / 3, 0.4])  # widths, and what is outside
    assert sums[8:].tolist() == [0, 0, 0]  # there were no thresholds


@pytest.mark.parametrize("answered", [None, [[0.9, 0.1]] * 9])
def test_probabilities_above_thresholds_get_brier_scores(answered: Any) -> None:
    scores = make_scores(max_steps=2)
    above = None if answered is None else np.array(answered)
    scores.learn([seen(0, 0.5, bands=band(0.5, 0.1, 9), thresholds=(0.5, 0.6), above=above)])
    scores.learn([seen(2, 0.5, 0.55, 0.65)])

    happened = np.array([[1, 0], [1, 1]])
    model = np.array(answered[:2] if answered else [[0.5, 0.1]] * 2)
    baseline_above = np.array([[0.5, 0.26083]] * 2)  # its band is twice as wide
    expected = [((p - happened) ** 2).mean() for p in (model, baseline_above)]
    assert scores.known[MODEL, EVERYTHING].sums[8:] == pytest.approx([1, *expected], rel=1e-4)


def test_records_of_one_batch_score_each_other() -> None:
    scores = make_scores()
    scores.learn([seen(step, *[0.5] * (step + 1), market=m) for step in (0, 3, 6) for m in "ab"])

    assert forecasts(scores) == 4


def _loss(y: FloatArray, half: float) -> float:
    losses = []
    for level, value in ((0.1, 0.5 - half), (0.5, 0.5), (0.9, 0.5 + half)):
        losses.append(np.where(y > value, level * (y - value), (1 - level) * (value - y)))
    return float(np.mean(losses))


def test_forecasts_of_a_market_do_not_share_outcomes() -> None:
    scores = make_scores()
    for step in range(13):
        scores.learn([seen(step, *[0.5] * (step + 1))])

    assert forecasts(scores) == 4  # from steps 0, 3, 6 and 9, three steps each


def test_baseline_and_other_steps_give_no_pair() -> None:
    scores = make_scores()
    scores.learn([seen(0, 0.5, source="ewma"), seen(0, 0.5, market="other")])
    scores.learn([seen(1, *[0.5] * 9, step_s=3600, market="other")])
    scores.learn([seen(4, *[0.5] * 5, source="ewma")])

    assert scores.known == {}


@pytest.mark.parametrize("source", [MODEL, "ewma"])
def test_share_inside_the_calibrated_interval_goes_to_the_coverage_test_of_its_source(
    source: str,
) -> None:
    scores = make_scores(lambda record: np.tile([0.45, 0.56], (5, 1)), max_steps=2)
    scores.learn([seen(0, 0.5, source=source)])
    scores.learn([seen(2, 0.5, 0.55, 0.6, source=source)])

    (found,) = scores.tests.items()
    assert (found[0], found[1].forecasts, found[1].recent) == (source, 1, 0.5)
    assert bool(scores.known) == (source == MODEL)
    assert scores.scored == 1


def test_answer_of_the_baseline_still_completes_a_pair_of_the_model() -> None:
    scores = make_scores()
    scores.learn([seen(0, 0.5)])
    scores.learn([seen(3, 0.5, 0.5, 0.5, 0.5, source="ewma")])

    assert forecasts(scores) == 1


@pytest.mark.parametrize(
    "later",
    [
        seen(3, None, None, 0.5),  # one of three steps is known
        seen(40, 0.5, 0.5),  # the window begins after the forecast
        seen(3, 0.5, 0.5, 0.5, late_s=0.4 * STEP_S),  # between two steps
    ],
)
def test_forecast_without_outcomes_in_the_window_makes_room_for_the_next(
    later: ForecastRecord,
) -> None:
    scores = make_scores()
    scores.learn([seen(0, 0.5)])
    scores.learn([later])
    assert scores.known == {}
    base = round((later.as_of - seen(0).as_of) / STEP_S)
    scores.learn([seen(base + 3, *[0.5] * 5, late_s=later.as_of - seen(base).as_of)])

    assert forecasts(scores) == 1


def test_long_forecasts_are_scored_on_their_first_steps() -> None:
    scores = make_scores(max_steps=2)
    scores.learn([seen(0, 0.5, bands=band(0.5, 0.1, 9))])
    scores.learn([seen(2, 0.5, 0.5, 0.5)])

    assert forecasts(scores) == 1


def test_markets_and_segments_are_bounded() -> None:
    scores = make_scores(max_markets=2, max_segments=2)
    scores.learn([seen(0, 0.5, market=m, liquidity=m) for m in ("a", "b", "c")])
    scores.learn([seen(3, 0.5, 0.5, 0.5, 0.5, market=m, liquidity=m) for m in ("a", "b", "c")])

    assert forecasts(scores) == 2  # "a" was dropped
    assert len(scores.known) == 2


def test_learner_reports_the_rows_and_goes_on_from_what_it_knew() -> None:
    learner = OnlineCalibrator(make_settings(), NOTHING, baseline)
    learner.learn([seen(0, 0.5)])
    learner.learn([seen(3, 0.5, 0.5, 0.5, 0.5)])
    again = OnlineCalibrator(make_settings(), learner.learned, baseline)
    off = OnlineCalibrator(make_settings(), learner.learned)

    assert learner.changes == 3 + 1  # steps that calibrate, and the forecast
    (source,) = again.report().sources
    assert (source.source, source.calibrated_forecasts, source.advice) == (MODEL, 0, Advice.HOLD)
    rows = [(row.source, row.segment, row.skill.forecasts) for row in again.report().skill]
    assert rows == [(MODEL, "activity=many|price=middle|freq=5m", 1), (MODEL, EVERYTHING, 1)]
    off.learn([seen(6, 0.5, 0.5, 0.5, 0.5)])
    assert isinstance(off.learned, Learned)
    assert off.learned.skill == learner.learned.skill


@pytest.mark.parametrize(
    ("source", "changes", "expected"),
    [("ewma", {}, 2 / 3), (MODEL, {}, None), ("ewma", {"min_changes": 9}, None)],
    ids=["calibrated", "no factors", "still window"],
)
def test_learner_tests_the_calibrated_interval_of_windows_that_moved(
    source: str, changes: dict[str, int], expected: float | None
) -> None:
    learned = Learned(make_state(factor=0.5), {})  # 0.45 to 0.55
    learner = OnlineCalibrator(make_settings(**changes), learned, baseline)
    learner.learn([seen(0, 0.5, source=source)])
    learner.learn([seen(3, 0.5, 0.54, 0.55, 0.56, source=source)])

    rows = {row.source: row.calibrated_coverage for row in learner.report().sources}
    assert rows.get(source) == (expected and pytest.approx(expected))
    assert source in rows or expected is None
    assert set(learner.learned.coverage) == ({source} if expected else set())
