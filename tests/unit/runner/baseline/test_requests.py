import numpy as np

from runner.baseline.requests import BaselineRequest, baseline_bands
from tests.support.builders import LOGIT, make_config, walk

CONFIG = make_config()


def ask(*requests: BaselineRequest) -> list[np.ndarray]:
    return [b.y_prob for b in baseline_bands(requests, CONFIG.baseline, CONFIG.bands)]


def request(seed: int, horizon: int = 4, points: int = 50) -> BaselineRequest:
    return BaselineRequest(walk(points, seed), horizon, (0.1, 0.5, 0.9), LOGIT)


def test_mixed_requests_are_answered_in_order_as_if_alone() -> None:
    requests = [request(1), request(2, horizon=7), request(3, points=20), request(4, horizon=7)]

    together = ask(*requests)

    for one, answer in zip(requests, together, strict=True):
        np.testing.assert_allclose(answer, ask(one)[0], rtol=1e-9)


def test_flat_market_gets_the_least_width_and_says_so() -> None:
    flat = BaselineRequest(np.full(50, 0.4), 3, (0.1, 0.5, 0.9), LOGIT)

    bands = baseline_bands([flat], CONFIG.baseline, CONFIG.bands)[0]

    np.testing.assert_allclose(bands.y_prob[:, -1] - bands.y_prob[:, 0], 0.02)
    assert "interval_widened" in bands.corrections


def test_no_requests_no_answers() -> None:
    assert ask() == []


def test_a_flat_market_that_trades_in_mills_may_have_a_band_of_a_mill() -> None:
    prices = np.array([0.401, 0.402, *[0.4] * 48])
    quiet = BaselineRequest(prices, 3, (0.4, 0.5, 0.6), LOGIT)
    limits = CONFIG.bands.model_copy(update={"min_interval_ticks": 1.0})

    bands = baseline_bands([quiet], CONFIG.baseline, limits)[0]

    np.testing.assert_allclose(bands.y_prob[:, -1] - bands.y_prob[:, 0], 0.001)
