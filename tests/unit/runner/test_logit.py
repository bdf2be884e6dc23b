import numpy as np
import pytest

from runner.logit import from_model_space, to_logit, to_model_space, to_prob
from runner.types import Space, Transform


def test_even_odds_are_zero() -> None:
    assert to_logit(np.array([0.5]), 1e-6)[0] == 0.0


def test_log_odds_of_three_quarters_are_log_three() -> None:
    np.testing.assert_allclose(to_logit(np.array([0.75]), 1e-6), np.log(3.0))


@pytest.mark.parametrize(("bound", "expected"), [(0.0, 1e-6), (1.0, 1.0 - 1e-6)])
def test_bounds_are_kept_finite_by_eps(bound: float, expected: float) -> None:
    y = to_prob(to_logit(np.array([bound]), 1e-6))

    np.testing.assert_allclose(y, expected, rtol=1e-9)


def test_inverse_undoes_and_keeps_shape() -> None:
    y_prob = np.random.default_rng(1).uniform(1e-5, 1 - 1e-5, (3, 4, 5))

    back = to_prob(to_logit(y_prob, 1e-6))

    np.testing.assert_allclose(back, y_prob, rtol=1e-9)


def test_missing_values_stay_missing() -> None:
    assert np.isnan(to_logit(np.array([np.nan]), 1e-6))[0]


def test_identity_space_changes_nothing_either_way() -> None:
    identity = Transform(Space.IDENTITY, 1e-6)
    y = np.array([0.0, 0.3, 1.2])

    np.testing.assert_array_equal(to_model_space(y, identity), y)
    np.testing.assert_array_equal(from_model_space(y, identity), y)


def test_logit_space_goes_there_and_back() -> None:
    logit = Transform(Space.LOGIT, 1e-6)
    y = np.array([0.2, 0.7])

    np.testing.assert_allclose(from_model_space(to_model_space(y, logit), logit), y)
