import numpy as np

from runner.forecast.resolved_request import regularise

NAN = np.nan


def test_regular_series_passes_as_it_is() -> None:
    y = np.array([0.1, 0.2, 0.3])

    series = regularise(y, None, {}, step_s=300, max_steps=10)

    np.testing.assert_array_equal(series.y_prob, y)
    assert (series.points, series.gaps_filled, series.longest_gap_minutes) == (3, 0, 0.0)


def test_only_the_newest_steps_are_kept() -> None:
    series = regularise(np.linspace(0, 1, 11), None, {}, step_s=300, max_steps=3)

    np.testing.assert_allclose(series.y_prob, [0.8, 0.9, 1.0])


def test_nulls_are_filled_forward_and_counted() -> None:
    series = regularise(np.array([0.1, NAN, NAN, 0.4]), None, {}, step_s=300, max_steps=10)

    np.testing.assert_array_equal(series.y_prob, [0.1, 0.1, 0.1, 0.4])
    np.testing.assert_array_equal(series.observed_prob, [0.1, NAN, NAN, 0.4])
    assert (series.points, series.gaps_filled, series.longest_gap_minutes) == (2, 2, 10.0)


def test_nothing_is_invented_before_the_first_value() -> None:
    series = regularise(np.array([NAN, NAN, 0.3, 0.4]), None, {}, step_s=60, max_steps=10)

    np.testing.assert_array_equal(series.y_prob, [0.3, 0.4])
    assert series.longest_gap_minutes == 0.0


def test_nulls_at_the_end_are_a_gap_up_to_the_last_time() -> None:
    series = regularise(np.array([0.1, 0.2, NAN, NAN, NAN]), None, {}, step_s=300, max_steps=10)

    np.testing.assert_array_equal(series.y_prob, [0.1, 0.2, 0.2, 0.2, 0.2])
    assert series.longest_gap_minutes == 15.0


def test_irregular_times_land_on_the_grid_that_ends_at_the_last_one() -> None:
    times = np.array([0.0, 290.0, 600.0, 1500.0])

    series = regularise(np.array([0.1, 0.2, 0.3, 0.4]), times, {}, step_s=300, max_steps=10)

    np.testing.assert_array_equal(series.y_prob, [0.1, 0.2, 0.3, 0.3, 0.3, 0.4])
    np.testing.assert_array_equal(series.observed_prob, [0.1, 0.2, 0.3, NAN, NAN, 0.4])
    assert series.longest_gap_minutes == 10.0


def test_long_silence_does_not_make_a_long_array() -> None:
    series = regularise(np.array([0.1, 0.4]), np.array([0.0, 3e8]), {}, step_s=300, max_steps=5)

    np.testing.assert_array_equal(series.y_prob, [0.1, 0.1, 0.1, 0.1, 0.4])
    assert series.longest_gap_minutes == 20.0


def test_covariates_keep_their_own_values_where_the_price_is_missing() -> None:
    x = {"volume": np.array([1.0, 2.0, 3.0])}

    series = regularise(np.array([NAN, 0.2, NAN]), None, x, step_s=300, max_steps=10)

    np.testing.assert_array_equal(series.x_past["volume"], [2.0, 3.0])


def test_time_stamps_with_jitter_of_a_microsecond_do_not_shift_the_grid() -> None:
    times = np.array([0.0, 300.000001, 599.999999, 900.0])

    series = regularise(np.array([0.1, 0.2, 0.3, 0.4]), times, {}, step_s=300, max_steps=10)

    np.testing.assert_array_equal(series.observed_prob, [0.1, 0.2, 0.3, 0.4])
