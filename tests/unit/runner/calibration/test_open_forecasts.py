import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.calibration.coverage import LearningEvent
from runner.calibration.open_forecasts import OpenForecast, OpenForecasts, Window, match_actuals
from tests.support.learning import START, STEP_S, make_settings


def forecast(
    step: int = 0, steps: int = 3, step_s: int = STEP_S, source: str = "ewma"
) -> OpenForecast:
    interval, answered, factors = (np.zeros((steps, n)) for n in (3, 4, 2))
    open_ = np.ones(steps, dtype=np.bool_)
    as_of = START + step * step_s
    return OpenForecast(as_of, step_s, source, ("all",), interval, answered, factors, open_)


def window(end: float, *values: float, step_s: int = STEP_S) -> Window:
    return Window(START + end * step_s, np.array(values))


def met(*pairs: tuple[OpenForecast, Window]) -> list[tuple[int, float]]:
    """Step and value of every match."""
    matched = match_actuals(pairs)
    return list(zip(matched.step.tolist(), matched.y_prob.tolist(), strict=True))


def store(**changes: int) -> OpenForecasts:
    return OpenForecasts(make_settings(**changes))


def test_values_before_the_forecast_and_after_its_end_are_not_matched() -> None:
    assert met((forecast(), window(5, *np.linspace(0, 1, 9)))) == [
        (0, 0.5),
        (1, 0.625),
        (2, 0.75),
    ]


def test_missing_value_can_be_sent_later() -> None:
    waiting = forecast()
    gap = met((waiting, window(2, np.nan, 0.5)))
    later = met((waiting, window(3, 0.4, 0.7, 0.6)))

    assert gap == [(1, 0.5)]
    assert later == [(0, 0.4), (2, 0.6)]


def test_forecasts_of_different_lengths_and_steps_are_matched_together() -> None:
    short, long = forecast(steps=1), forecast(steps=4, step_s=60)

    assert met((short, window(1, 0.4)), (long, window(4, 0.6, 0.7, step_s=60))) == [
        (0, 0.4),
        (2, 0.6),
        (3, 0.7),
    ]


@pytest.mark.parametrize(("late", "meets"), [(0.09, True), (-0.09, True), (0.11, False)])
def test_clocks_may_be_a_tenth_of_a_step_off(late: float, meets: bool) -> None:
    waiting, pending = store(), forecast()
    waiting.add("m", pending)
    late_window = window(1 + late, 0.4)

    assert bool(waiting.awaiting("m", late_window, STEP_S)) is meets
    assert bool(met((pending, late_window))) is meets


def test_windows_of_another_step_are_not_used_but_single_values_are() -> None:
    waiting = store()
    waiting.add("m", forecast(step_s=300))

    assert waiting.awaiting("m", Window(START + 300, np.array([0.5])), 60) == []
    assert len(waiting.awaiting("m", Window(START + 300, np.array([0.5])), None)) == 1


def test_steps_without_a_value_in_any_window_are_missed() -> None:
    waiting, pending = store(), forecast()
    waiting.add("m", pending)
    met((pending, window(3, 0.1, np.nan, 0.3)))
    waiting.close("m", STEP_S, START + 3 * STEP_S)
    assert waiting.waiting == 1  # the value may still be filled in

    waiting.close("m", STEP_S, START + 4 * STEP_S)

    assert waiting.waiting == 0
    assert waiting.counts[LearningEvent.MISSED] == 1


def test_market_with_too_many_forecasts_drops_the_earliest_and_takes_none_from_before() -> None:
    waiting = store(max_pending_per_market=2)
    for step in (5, 6, 7):
        waiting.add("m", forecast(step))

    assert waiting.waiting == 2
    assert waiting.counts[LearningEvent.DROPPED_FORECASTS] == 1
    assert waiting.is_known("m", forecast(5).key)
    assert waiting.is_known("m", forecast(4).key)
    assert not waiting.is_known("m", forecast(8).key)


def test_forecast_in_the_far_future_does_not_block_its_market() -> None:
    waiting = store(max_pending_per_market=4)
    waiting.add("m", forecast(10**6))
    for step in range(20):
        assert not waiting.is_known("m", forecast(step).key)
        waiting.add("m", forecast(step))

    assert waiting.waiting == 4


def test_too_many_markets_drop_the_least_recently_used_one() -> None:
    waiting = store(max_markets=2)
    waiting.add("a", forecast())
    waiting.add("a", forecast(1))
    waiting.add("b", forecast())
    waiting.awaiting("a", window(1, 0.5), STEP_S)
    waiting.add("c", forecast())

    assert (waiting.markets, waiting.waiting) == (2, 3)
    assert waiting.is_known("a", forecast().key)
    assert not waiting.is_known("b", forecast().key)
    assert (
        waiting.counts[LearningEvent.DROPPED_MARKETS]
        == waiting.counts[LearningEvent.DROPPED_FORECASTS]
        == 1
    )


def events(markets: str) -> st.SearchStrategy[list[tuple[str, int, int]]]:
    """Requests: market, time and how many values they carry; in any order, again and again."""
    one = st.tuples(st.sampled_from(markets), st.integers(0, 12), st.integers(1, 6))
    return st.lists(one, max_size=60)


def request(waiting: OpenForecasts, market: str, step: int, points: int) -> list[object]:
    """Sends a request; returns the steps that it scored."""
    seen = window(step, *[0.5] * points)
    matched = match_actuals([(open_, seen) for open_ in waiting.awaiting(market, seen, STEP_S)])
    pending = forecast(step)
    if not waiting.is_known(market, pending.key):
        waiting.add(market, pending)
    waiting.close(market, STEP_S, seen.end_ts)
    steps = zip(matched.forecasts, matched.step.tolist(), strict=True)
    return [(market, forecast.key, h) for forecast, h in steps]


@settings(deadline=None)
@given(events("abcde"))
def test_store_stays_within_its_bounds_and_scores_each_step_once(
    sent: list[tuple[str, int, int]],
) -> None:
    waiting = store(max_markets=3, max_pending_per_market=4)
    scored: list[object] = []
    for event in sent:
        scored += request(waiting, *event)

        assert waiting.markets <= 3
        assert waiting.waiting <= 12
    counts = waiting.counts
    left = counts[LearningEvent.ISSUED] - counts[LearningEvent.DROPPED_FORECASTS] - waiting.waiting
    assert 3 * left - counts[LearningEvent.MISSED] <= len(scored)
    if not counts[LearningEvent.DROPPED_MARKETS]:
        assert len(scored) == len(set(scored))
