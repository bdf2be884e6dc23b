from typing import Any

import numpy as np
import pytest

from serve_app.backtest.alert_rules import (
    FIXED,
    HORIZON,
    P_VALUES,
    POINTS,
    SERVICE,
    alerts_of,
    compare_rules,
    steps_of,
    threshold_of,
)
from serve_app.backtest.market_file import Series
from serve_app.backtest.tables import alerts_table
from tests.support.builders import make_config

STEPS = 500


def make_series(number: int, jump: float = 0.2, lasts: bool = True) -> Series:
    """A price that moves a little; every 50 steps it jumps, and stays there or returns."""
    chance = np.random.default_rng(number)
    y: Any = 0.4 + 0.01 * chance.integers(-1, 2, POINTS + STEPS + HORIZON)
    for at in range(POINTS + 20, POINTS + STEPS, 50):
        sign = 1 if (at // 50 + number) % 2 else -1
        end = len(y) if lasts else at + 3
        y[at:end] = np.clip(y[at:end] + sign * jump * (at % 100 < 50 or not lasts), 0.05, 0.95)
    known = np.ones(len(y), dtype=bool)
    return Series(f"m-{number}", 0.0, 300.0, y, known, {"event": f"e-{number % 4}"})


def test_short_series_have_no_steps() -> None:
    one = make_series(0)
    short = Series("m", 0.0, 300.0, one.y_prob[: POINTS + HORIZON - 1], one.known, {})

    assert steps_of(short, make_config()) is None


def test_alerts_of_a_market_are_twelve_steps_apart() -> None:
    surprise = np.zeros(30)
    surprise[[3, 4, 14, 15, 29]] = 1.0

    assert alerts_of(surprise, 0.5).tolist() == [3, 15, 29]
    assert alerts_of(surprise, 1.1).tolist() == []


def test_threshold_gives_as_many_alerts_as_wanted_or_a_few_less() -> None:
    chance = np.random.default_rng(3)
    scores = [chance.random(400).round(2) for _ in range(5)]  # with ties
    for wanted in (0, 1, 17, 60, 10_000):
        threshold = threshold_of(scores, wanted)
        assert sum(len(alerts_of(one, threshold)) for one in scores) <= wanted
        lower = min(threshold - 0.01, 1.0)
        assert sum(len(alerts_of(one, lower)) for one in scores) > wanted or wanted == 10_000


@pytest.mark.parametrize("lasts", [True, False])
def test_rules_are_compared_at_the_same_number_of_alerts(lasts: bool) -> None:
    config = make_config()
    series = [make_series(number, lasts=lasts) for number in range(8)]
    steps = [one for one in (steps_of(each, config) for each in series) if one is not None]

    found = compare_rules(steps, 0.01)

    rules = found["rules"]
    wanted = rules[SERVICE]["alerts"]
    assert wanted > 0
    assert 0 < rules[FIXED]["alerts"] <= wanted  # prices on ticks: no threshold is between two
    assert (rules[SERVICE]["lasted_share"] > 0.5) is lasts
    assert rules[SERVICE]["large_moves_seen"] > 0.5 or not lasts
    assert rules[SERVICE]["worth_share"] <= rules[SERVICE]["lasted_share"]
    assert found["randomised_ks"] < 0.1
    alerts = [one["rules"][SERVICE]["alerts"] for one in found["curve"]]
    assert len(alerts) == len(P_VALUES)
    assert alerts == sorted(alerts, reverse=True)
    table = alerts_table(found)
    assert [row[0] for row in table.rows] == list(rules)
