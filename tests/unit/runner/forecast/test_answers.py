from typing import Any

import numpy as np
import pytest

from runner.calibration.coverage import Learned
from runner.calibration.state import ConformalState, StepFactors
from runner.forecast.answers import AnswerStore, Forecast, Outbox
from runner.types import Bands, FallbackReason
from tests.support.builders import AS_OF, make_answer, make_bands, make_config
from tests.support.fakes import FakeClock
from tests.support.learning import make_seen, make_state
from tests.unit.runner.forecast.forecasters import resolved

REASON = FallbackReason.BREAKER_OPEN


def make_answers(
    outbox: Outbox | None = None, conformal: ConformalState | None = None
) -> tuple[AnswerStore, FakeClock]:
    clock = FakeClock()
    return AnswerStore(make_config(), clock, lambda: 0.0, conformal, outbox), clock


def test_answers_of_the_model_and_of_the_baseline_are_noted_with_their_source() -> None:
    outbox = Outbox(10)
    answers, _ = make_answers(outbox)
    model, baseline = make_answer(), make_bands()
    gap = resolved(
        market_id="m-1",
        y_prob=np.array([0.4, np.nan, 0.5]),
        liquidity_bucket="high",
        closes_at=AS_OF.timestamp() + 60,
    )
    answers.from_model(resolved(), model)
    answers.from_baseline(gap, baseline, REASON)

    (first, second) = outbox.take(10)
    assert (first.source, first.bands) == ("fracast-0", model.bands)
    assert (second.source, second.bands) == ("ewma", baseline)
    assert (second.market_id, second.liquidity, second.freq) == ("m-1", "high", "5m")
    assert (second.as_of, second.step_s) == (gap.request.as_of.timestamp(), 300)
    np.testing.assert_array_equal(second.observed_prob, [0.4, np.nan, 0.5])
    assert first.skill_segment.endswith("|freq=5m")
    assert second.skill_segment.endswith("|freq=5m|closes=hour|liquidity=high")


@pytest.mark.parametrize(
    "reason",
    [
        FallbackReason.ROUTED_BY_SKILL,
        FallbackReason.ROUTED_BY_COVERAGE,
        FallbackReason.PINNED_TO_BASELINE,
        REASON,
    ],
)
def test_model_that_lost_its_markets_is_noted_with_the_baselines_answer(
    reason: FallbackReason,
) -> None:
    outbox = Outbox(10)
    answers, _ = make_answers(outbox)
    answers.from_baseline(resolved(), make_bands(), reason)

    expected = "fracast-0" if reason.startswith("routed_by") else None
    assert [one.routed_from for one in outbox.take(10)] == [expected]


def test_probability_above_thresholds_is_noted_as_answered() -> None:
    outbox = Outbox(10)
    answers, _ = make_answers(outbox)
    forecast = answers.from_model(resolved(thresholds=(0.3, 0.45)), make_answer())
    (noted,) = outbox.take(10)

    assert noted.thresholds == (0.3, 0.45)
    assert noted.above is forecast.above
    assert forecast.above is not None
    assert forecast.above[0].tolist() == pytest.approx([0.9, 0.5])


def test_answers_to_requests_that_are_not_observed_are_not_noted() -> None:
    outbox = Outbox(10)
    answers, _ = make_answers(outbox)
    answers.from_model(resolved(observe=False), make_answer())

    assert len(outbox) == 0


@pytest.mark.parametrize("wait_s", [1.0, 70.0])
def test_cached_answers_are_not_noted_again(wait_s: float) -> None:
    outbox = Outbox(10)
    answers, clock = make_answers(outbox)
    answers.record(resolved(), make_answer())
    clock.now += wait_s

    cached = answers.fresh(resolved()) or answers.stale(resolved(), REASON)

    assert cached is not None
    assert len(outbox) == 0


def test_new_calibration_state_is_used_from_then_on() -> None:
    answers, _ = make_answers()
    asked = resolved(conformal=True)
    before = answers.from_baseline(asked, make_bands(), REASON)
    answers.calibrate_by(Learned(make_state(factor=2.0), {}))
    after = answers.from_baseline(asked, make_bands(), REASON)

    assert answers.skill() == {}
    assert before.conformal is None
    assert after.conformal is not None
    assert after.conformal.paths[0, 0].tolist() == pytest.approx([0.15, 0.45, 0.75])
    assert (after.bands.y_prob == before.bands.y_prob).all()


def calibrated(bands: Bands, *segments: str, **changes: Any) -> Forecast:
    factors = StepFactors(np.full((3, 2), 2.0), np.full(3, 500))
    state = ConformalState(0.8, {"ewma": dict.fromkeys((*segments, "all"), factors)})
    answers, _ = make_answers(conformal=state)
    return answers.from_baseline(resolved(conformal=True, **changes), bands, REASON)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"liquidity_bucket": "high"}, "liquidity=high|width=0.1..1"),
        ({"liquidity_bucket": "unknown"}, "width=0.1..1"),
        ({"levels": (0.2, 0.5, 0.9)}, "all"),
    ],
)
def test_narrowest_known_segment_of_a_band_calibrates_it(
    changes: dict[str, Any], expected: str
) -> None:
    widening = Bands(np.array([[0.499, 0.5, 0.501], [0.49, 0.5, 0.51], [0.4, 0.5, 0.6]]))

    forecast = calibrated(widening, "liquidity=high|width=0.1..1", "width=0.1..1", **changes)

    assert forecast.conformal is not None
    assert forecast.conformal.segment_used == expected


def test_bands_before_their_width_limits_are_calibrated() -> None:
    before_limits = np.tile([0.449, 0.45, 0.452], (3, 1))
    limited = Bands(np.tile([0.44, 0.45, 0.46], (3, 1)), ("interval_widened",), before_limits)

    forecast = calibrated(limited, "width=0..0.01")

    assert forecast.conformal is not None
    np.testing.assert_allclose(forecast.conformal.paths[0, 0], [0.448, 0.45, 0.454])


def market_ids(outbox: Outbox) -> list[str]:
    return [record.market_id for record in outbox.take(100)]


def filled(count: int) -> Outbox:
    outbox = Outbox(3)
    for number in range(count):
        outbox.add(make_seen(0, market=f"m-{number}"))
    return outbox


@pytest.mark.parametrize(
    ("taken", "newer", "left"),
    [(2, 0, ["m-1", "m-2", "m-3"]), (3, 1, ["m-2", "m-3", "x"]), (3, 3, ["x", "x", "x"])],
)
def test_records_put_back_are_the_first_again_and_dropped_before_newer_ones(
    taken: int, newer: int, left: list[str]
) -> None:
    outbox = filled(4)
    assert outbox.dropped == 1
    records = outbox.take(taken)
    for _ in range(newer):
        outbox.add(make_seen(0, market="x"))
    outbox.put_back(records)

    assert market_ids(outbox) == left
    assert outbox.dropped == 1 + newer


PAST = {"volume": np.arange(40.0), "bids": np.arange(40.0)}


@pytest.mark.parametrize(
    ("model", "past", "ignored"),
    [
        ("fracast-0", PAST, ("bids", "volume")),
        ("chronos2", PAST, ()),
        ("fracast-0", {}, ()),
    ],
)
def test_covariates_that_a_model_does_not_use_are_named(
    model: str, past: dict[str, Any], ignored: tuple[str, ...]
) -> None:
    answers, _ = make_answers()
    asked = resolved(model_name=model, x_past=past)
    by_model = answers.from_model(asked, make_answer())
    by_baseline = answers.from_baseline(asked, make_bands(), REASON)

    assert by_model.covariates_ignored == ignored
    assert by_baseline.covariates_ignored == tuple(sorted(past))
