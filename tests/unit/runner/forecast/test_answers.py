from typing import Any

import numpy as np
import pytest

from runner.calibration.state import ConformalState, StepFactors
from runner.forecast.answers import AnswerStore, Forecast
from runner.forecast.outbox import Outbox
from runner.types import Bands, FallbackReason
from tests.support.builders import make_answer, make_bands, make_config
from tests.support.fakes import FakeClock
from tests.support.learning import make_state
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
    answers.from_model(resolved(), model)
    answers.from_baseline(resolved(), baseline, REASON)

    (first, second) = outbox.take(10)
    assert first[1:] == ("fracast-0", model.bands)
    assert second[1:] == ("ewma", baseline)


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
    answers.calibrate_by(make_state(factor=2.0))
    after = answers.from_baseline(asked, make_bands(), REASON)

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
