import numpy as np
import pytest

from runner.types import FallbackReason
from serve_app.telemetry.request_history import KEPT_S, SLOT_S, RequestHistory
from tests.support.builders import AS_OF
from tests.support.fakes import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def requests(clock: FakeClock) -> RequestHistory:
    return RequestHistory(clock, AS_OF.timestamp)


def answer(requests: RequestHistory, clock: FakeClock, latency_ms: float = 5.0) -> None:
    requests.answered(clock.now, latency_ms, None, cached=False)


def test_nothing_answered_has_no_shares_and_no_percentiles(requests: RequestHistory) -> None:
    empty = requests.last(300)

    assert (empty.requests, empty.reasons.total()) == (0, 0)
    assert (empty.fallback_share, empty.cache_hit_share, empty.p50_ms, empty.p95_ms) == (None,) * 4


def test_percentiles_are_right_within_five_percent(
    requests: RequestHistory, clock: FakeClock
) -> None:
    latencies = np.random.default_rng(3).lognormal(3.0, 1.5, 5000)
    for latency_ms in latencies:
        answer(requests, clock, float(latency_ms))

    found = requests.last(300)

    assert found.p50_ms == pytest.approx(np.quantile(latencies, 0.5), rel=0.05)
    assert found.p95_ms == pytest.approx(np.quantile(latencies, 0.95), rel=0.05)


@pytest.mark.parametrize("latency_ms", [-1.0, 0.0, 1e-9, 1e9])
def test_absurd_times_land_in_the_outermost_buckets(
    requests: RequestHistory, clock: FakeClock, latency_ms: float
) -> None:
    answer(requests, clock, latency_ms)

    assert requests.last(300).requests == 1
    assert requests.last(300).p50_ms in (0.008, 62757.489)


def test_reasons_and_cache_hits_are_shares_of_all_answers(
    requests: RequestHistory, clock: FakeClock
) -> None:
    requests.answered(clock.now, 1.0, FallbackReason.BREAKER_OPEN, cached=False)
    requests.answered(clock.now, 1.0, FallbackReason.STALE_IF_ERROR, cached=True)
    requests.answered(clock.now, 1.0, None, cached=True)
    answer(requests, clock)

    found = requests.last(300)

    assert (found.fallback_share, found.cache_hit_share) == (0.5, 0.5)
    assert found.reasons == {FallbackReason.BREAKER_OPEN: 1, FallbackReason.STALE_IF_ERROR: 1}


def test_answers_leave_the_window_when_it_has_passed(
    requests: RequestHistory, clock: FakeClock
) -> None:
    answer(requests, clock)
    clock.now += 295.0
    within = requests.last(300).requests
    clock.now += 10.0

    assert (within, requests.last(300).requests) == (1, 0)


def test_slots_follow_each_other_without_holes_however_long_the_silence(
    requests: RequestHistory, clock: FakeClock
) -> None:
    answer(requests, clock)
    clock.now += 10 * KEPT_S + 3.0
    answer(requests, clock)

    slots = requests.slots()
    began = [requests.at(slot).timestamp() - AS_OF.timestamp() for slot in slots]
    assert len(slots) == KEPT_S // SLOT_S
    assert set(np.diff(began)) == {SLOT_S}
    assert began[-1] == 10 * KEPT_S
    assert [slot.requests for slot in slots] == [0] * (len(slots) - 1) + [1]


def test_an_answer_that_is_counted_late_goes_into_the_running_slot(
    requests: RequestHistory, clock: FakeClock
) -> None:
    clock.now += 25.0
    answer(requests, clock)
    requests.answered(clock.now - 20.0, 5.0, None, cached=False)

    assert [slot.requests for slot in requests.slots()] == [0, 0, 2]
