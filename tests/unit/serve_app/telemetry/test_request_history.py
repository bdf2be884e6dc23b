import numpy as np
import pytest

from runner.types import FallbackReason
from serve_app.telemetry.request_history import KEPT_S, SLOT_S, RequestHistory
from tests.support.builders import AS_OF
from tests.support.fakes import FakeClock


def started() -> tuple[RequestHistory, FakeClock]:
    clock = FakeClock()
    return RequestHistory(clock, AS_OF.timestamp), clock


def test_percentiles_are_right_within_five_percent() -> None:
    history, clock = started()
    latencies = np.random.default_rng(3).lognormal(3.0, 1.5, 5000)
    for number, latency_ms in enumerate(latencies):
        clock.now += 200.0 * (number == 2500)  # in two slots
        history.answered(clock.now, float(latency_ms), None, cached=False)

    found = history.last(300)

    for fraction in (0.5, 0.95):
        expected = np.quantile(latencies, fraction)
        assert found.percentile_ms(fraction) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("latency_ms", "shown_ms"), [(-1.0, 0.007), (0.0, 0.007), (1e9, pytest.approx(57549, rel=1e-4))]
)
def test_latency_beyond_the_range_is_counted_at_its_end(latency_ms: float, shown_ms: float) -> None:
    history, clock = started()
    history.answered(clock.now, latency_ms, None, cached=False)

    assert history.last(300).percentile_ms(0.5) == shown_ms


def test_answers_leave_the_window_when_it_has_passed() -> None:
    history, clock = started()
    history.answered(clock.now, 5.0, FallbackReason.BREAKER_OPEN, cached=True)
    clock.now += 295.0
    within = history.last(300)
    clock.now += 10.0
    after = history.last(300)

    assert (within.requests, within.cache_hits, within.reasons.total()) == (1, 1, 1)
    assert (after.requests, after.cache_hits, after.reasons.total()) == (0, 0, 0)


def test_slots_follow_each_other_without_gaps_after_a_long_pause() -> None:
    history, clock = started()
    clock.now += 10 * KEPT_S + 3.0
    history.answered(clock.now, 5.0, None, cached=False)
    history.answered(clock.now - 20.0, 5.0, None, cached=False)  # counted late: in the last slot

    slots = history.slots()
    began = [history.at(slot).timestamp() - AS_OF.timestamp() for slot in slots]
    assert len(slots) == KEPT_S // SLOT_S
    assert set(np.diff(began)) == {SLOT_S}
    assert began[-1] == 10 * KEPT_S
    assert [slot.requests for slot in slots] == [0] * (len(slots) - 1) + [2]
