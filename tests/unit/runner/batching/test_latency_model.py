import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.batching.latency_model import UNKNOWN, CallLatency, LatencyFit, LatencyModel

CALLS = st.lists(
    st.tuples(st.integers(1, 512), st.floats(0, 40, allow_nan=False)), min_size=1, max_size=60
)


def fitted(calls):
    fit = LatencyFit()
    for n, seconds in calls:
        fit.observe(n, seconds)
    return fit.line()


def tollama_s(n):
    """The measured daemon: 37 ms a call and 0.9 ms a series."""
    return 0.037 + 0.0009 * n


def test_a_straight_line_is_found_from_its_points():
    line = fitted((n, tollama_s(n)) for n in (1, 128, 64, 16, 32, 128, 4, 100) * 3)

    for n in (1, 10, 128, 256):
        assert line.seconds(n) == pytest.approx(tollama_s(n), rel=0.01)


def test_calls_over_the_centre_have_the_slope_above_it():
    assert CallLatency(2.5, 1.0, 0.4, 0.1).seconds(3) == pytest.approx(1.05)


def test_two_calls_by_hand():
    line = fitted([(1, 1.0), (3, 2.0)])

    # weights 7/8 and 1: means 2.0667 and 1.5333, centred sums 1.8667 and 0.9333
    mean_n, mean_s = (0.875 + 3) / 1.875, (0.875 + 2) / 1.875
    var, cov = 0.875 * (1 - mean_n) ** 2 + (3 - mean_n) ** 2, 0.0
    cov = 0.875 * (1 - mean_n) * (1 - mean_s) + (3 - mean_n) * (2 - mean_s)
    assert line.centre_n == pytest.approx(mean_n)
    assert line.centre_s == pytest.approx(mean_s)
    assert line.slope_above_s == pytest.approx(cov / (var + 1))
    assert line.slope_below_s == pytest.approx((cov + mean_s / mean_n) / (var + 1))


def test_after_one_call_a_smaller_one_costs_its_share_and_a_larger_one_no_more():
    line = fitted([(128, 12.8)])

    assert line.seconds(1) == pytest.approx(0.1)
    assert line.seconds(256) == 12.8


def test_the_cost_per_series_is_remembered_over_calls_of_one_size():
    sizes = (1, 128, 64, 16, 32) * 3 + (20,) * 80
    line = fitted((n, tollama_s(n)) for n in sizes)

    assert line.seconds(128) == pytest.approx(tollama_s(128), rel=0.05)


@given(CALLS, st.integers(0, 1000), st.integers(0, 1000))
def test_a_forecast_is_never_negative_and_never_falls_with_size(calls, n, more):
    line = fitted(calls)

    assert line.seconds(n) >= -1e-9
    assert line.seconds(n + more) >= line.seconds(n)


@given(CALLS)
def test_the_slopes_are_optimistic_and_bounded(calls):
    line = fitted(calls)

    assert 0 <= line.slope_above_s <= line.slope_below_s <= line.centre_s / line.centre_n


def test_old_calls_lose_an_eighth_of_their_weight_with_each_new_one():
    fit = LatencyFit()
    for _ in range(200):
        fit.observe(10, 1.0)
    fit.observe(10, 2.0)

    assert fit.line().centre_s == pytest.approx(1.125)


def test_a_stall_counts_as_four_times_the_mean_and_a_little():
    line = fitted([(32, 0.1)] * 200 + [(32, 30.0)])

    assert line.centre_s == pytest.approx(0.1 + (4 * 0.1 + 0.05 - 0.1) / 8)


def test_a_much_larger_call_may_take_its_share_longer_without_being_a_stall():
    assert fitted([(1, 0.1), (100, 10.0)]).seconds(100) == pytest.approx(10.0, rel=0.01)


def test_a_smaller_call_is_measured_against_the_mean_not_against_its_share():
    line = fitted([(128, 2.28), (1, 1.01)])

    assert line.centre_s == pytest.approx((0.875 * 2.28 + 1.01) / 1.875)


def test_each_key_is_forecast_from_its_own_calls_until_the_last_one_is_too_old():
    times: LatencyModel[str] = LatencyModel(10)
    times.observe("a", 1, 0.1, now=0)
    times.observe("b", 1, 5.0, now=1)
    times.observe("a", 1, 0.1, now=2)

    assert len(times) == 2
    assert times.at("b", 11).seconds(1) == pytest.approx(5.0)
    assert times.at("b", 11.01) is UNKNOWN
    assert times.at("a", 12).seconds(1) == pytest.approx(0.1)
    assert len(times) == 1
