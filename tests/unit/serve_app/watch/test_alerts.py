from typing import Any

import pytest

from serve_app.watch.alerts import Alert, MarketState, Rule, Severity, decide, steps_to_check
from tsfm_client import Check, LearnedFigure

STEP_S = 300
MARKET = ("m-1", "Who wins?")
USUAL = Rule()
BEGUN = MarketState(checked_ts=600, since_ts=600, breach="above", told=Severity.BREACH)


def check(breach: str = "above", severity: str = "breach", p: float | None = 0.001, **changes: Any):
    values: dict[str, Any] = {"price": 0.7, "beyond_widths": 0.5, "run_steps": 1}
    values["held_share"] = None
    figure = None if p is None else LearnedFigure(p, 900, "all")
    values |= {"breach": breach, "severity": severity, "p_value": figure, **changes}
    return Check(**values)


def after(state: MarketState, one: Check, end_ts: float = 900, rule: Rule = USUAL):
    return decide(state, one, end_ts, MARKET, ("fracast-0", None), rule)


@pytest.mark.parametrize(
    ("one", "begins"),
    [
        (check(), True),
        (check(p=0.005), True),
        (check(p=0.006), False),
        (check("none", "none"), False),
        (check(p=None, beyond_widths=1.0), True),
        (check(p=None, beyond_widths=0.9), False),
        (check(p=0.2, beyond_widths=9.0), False),
    ],
)
def test_alert_begins_with_an_unusual_price_outside_the_band(one: Check, begins: bool) -> None:
    state, alert = after(MarketState(), one)

    assert (alert is not None, state.since_ts, state.checked_ts) == (begins, 900 * begins, 900)


def test_alert_says_what_is_known() -> None:
    _, alert = after(MarketState(), check(held_share=LearnedFigure(0.61, 212, "all")))

    assert alert is not None
    assert (alert.market_id, alert.title, alert.ts, alert.severity) == (*MARKET, 900, "breach")
    assert alert.text() == (
        "breach: Who wins? at 70.0 %, above its band by 0.5 widths, p 0.0010; "
        "61% of such moves lasted"
    )
    assert Alert(**alert.as_dict()) == alert


def test_each_severity_is_told_once_and_the_last_one_ends_the_alert() -> None:
    state, told = MarketState(), []
    severities = ["breach", "run", "run", "holds"]
    for at, severity in enumerate(severities):
        state, alert = after(state, check(severity=severity, p=0.001 if at == 0 else 0.5), 900 + at)
        told.append(alert and alert.severity)

    assert told == ["breach", "run", None, "holds"]
    assert state == MarketState(checked_ts=903)


def test_lower_severities_are_not_told_where_only_higher_ones_are_wanted() -> None:
    rule = Rule(severity=Severity.RUN)
    state, first = after(MarketState(), check(), rule=rule)
    _, second = after(state, check(severity="run", p=0.5), 1200, rule)

    assert first is None
    assert second is not None
    assert second.severity == "run"


def test_price_back_inside_ends_the_alert() -> None:
    state, alert = after(BEGUN, check("none", "none"))

    assert (state, alert) == (MarketState(checked_ts=900), None)


def test_price_on_the_other_side_begins_another_alert() -> None:
    state, alert = after(BEGUN, check("below"))

    assert (state.since_ts, state.breach) == (900, "below")
    assert alert is not None


def test_same_alert_has_the_same_id_and_another_one_has_not() -> None:
    def id_of(state: MarketState, severity: str, end_ts: float) -> str:
        _, alert = after(state, check(severity=severity), end_ts)
        assert alert is not None
        return str(alert.id)

    assert id_of(MarketState(), "breach", 900) == id_of(MarketState(), "breach", 900)
    ids = {
        id_of(MarketState(), "breach", 900),
        id_of(MarketState(), "breach", 1200),
        id_of(BEGUN, "run", 900),
    }
    assert len(ids) == 3
    assert id_of(BEGUN, "run", 900) == id_of(BEGUN, "run", 1200)


@pytest.mark.parametrize(("end_ts", "steps"), [(600, 1), (900, 2), (1800, 5), (99_000, 12)])
def test_market_with_an_alert_is_checked_from_where_it_began(end_ts: float, steps: int) -> None:
    assert steps_to_check(BEGUN, end_ts, STEP_S) == steps
    assert steps_to_check(MarketState(checked_ts=600), end_ts, STEP_S) == 1
