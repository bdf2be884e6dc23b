import pytest

from runner.forecast.answers import AnswerStore
from runner.forecast.outbox import Outbox
from runner.forecast.resolved_request import ResolvedRequest, resolve_request
from runner.types import FallbackReason
from tests.support.builders import make_answer, make_bands, make_config, make_registry, make_request
from tests.support.fakes import FakeClock
from tests.support.learning import make_state

CONFIG, REGISTRY = make_config(), make_registry()
REASON = FallbackReason.BREAKER_OPEN


def make_answers(notes: Outbox | None = None) -> tuple[AnswerStore, FakeClock]:
    clock = FakeClock()
    return AnswerStore(CONFIG, clock, lambda: 0.0, None, notes), clock


def plan(**changes: object) -> ResolvedRequest:
    return resolve_request(make_request(**changes), REGISTRY, CONFIG)


def test_answers_of_the_model_and_of_the_baseline_are_noted_with_their_source() -> None:
    notes = Outbox(10)
    answers, _ = make_answers(notes)
    model, baseline = make_answer(), make_bands()
    answers.from_model(plan(), model)
    answers.from_baseline(plan(), baseline, REASON, in_process=False)

    (first, second) = notes.take(10)
    assert first[1:] == ("fracast-0", model.bands)
    assert second[1:] == ("ewma", baseline)


@pytest.mark.parametrize("wait_s", [1.0, 70.0])
def test_kept_answers_are_not_noted_again(wait_s: float) -> None:
    notes = Outbox(10)
    answers, clock = make_answers(notes)
    answers.learn(plan(), make_answer())
    clock.now += wait_s

    kept = answers.fresh(plan()) or answers.stale(plan(), REASON)

    assert kept is not None
    assert len(notes) == 0


def test_state_that_was_learned_is_used_from_then_on() -> None:
    answers, _ = make_answers()
    asked = plan(conformal=True)
    before = answers.from_baseline(asked, make_bands(), REASON, in_process=False)
    answers.calibrate_by(make_state(factor=2.0))
    after = answers.from_baseline(asked, make_bands(), REASON, in_process=False)

    assert before.conformal is None
    assert after.conformal is not None
    assert after.conformal.paths[0, 0].tolist() == pytest.approx([0.15, 0.45, 0.75])
    assert (after.bands.y_prob == before.bands.y_prob).all()
