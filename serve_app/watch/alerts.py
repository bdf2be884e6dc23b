"""Which alerts follow from a check: pure decisions on the state of one market.

An alert begins where a price breaches its band and is unusual enough. While it lasts, the market is
checked against the band that was forecast before the breach, so that the band does not follow the
move. The alert rises from `breach` to `run` and `holds`, each of which is told once, and ends when
a price is back inside, or after `HOLDS` was told.
"""

import hashlib
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from typing import Any

from runner.forecast.check import MAX_NEWEST_STEPS
from tsfm_client import Check, LearnedFigure

P_VALUE = 0.005  # one false alert a market in 200 steps: 17 hours of five minutes
BEYOND_WIDTHS = 1.0  # where no p-value is known yet


class Severity(IntEnum):
    """How long a price has been outside; the values are ordered."""

    BREACH = 1
    RUN = 2
    HOLDS = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """When an alert begins, and from which severity on it is told."""

    p_value: float = P_VALUE
    beyond_widths: float = BEYOND_WIDTHS
    severity: Severity = Severity.BREACH


@dataclass(frozen=True, slots=True)
class MarketState:
    """What is remembered of a market; times are POSIX seconds, 0 for none."""

    checked_ts: float = 0.0  # of the newest price that was checked
    since_ts: float = 0.0  # of the first price of the alert that lasts
    breach: str = "none"
    told: int = 0  # the highest severity that was told


@dataclass(frozen=True, slots=True)
class Alert:
    """One message about one market; equal alerts have equal ids."""

    id: str
    market_id: str
    title: str | None
    ts: float
    severity: str
    breach: str
    price: float
    beyond_widths: float
    p_value: float | None
    held_share: float | None
    model: str  # that made the band
    fallback_reason: str | None  # why it is not the one that was asked for

    def as_dict(self) -> dict[str, Any]:
        """The alert as JSON values."""
        return asdict(self)

    def text(self) -> str:
        """One line for people."""
        chance = "" if self.p_value is None else f", p {self.p_value:.4f}"
        held = "" if self.held_share is None else f"; {self.held_share:.0%} of such moves lasted"
        name = self.title or self.market_id
        return (
            f"{self.severity}: {name} at {100 * self.price:.1f} %, {self.breach} its band by "
            f"{self.beyond_widths:.1f} widths{chance}{held}"
        )


def steps_to_check(state: MarketState, end_ts: float, step_s: int) -> int:
    """The newest steps to check: those since an alert began, else one."""
    if not state.since_ts:
        return 1
    steps = round((end_ts - state.since_ts) / step_s) + 1
    return min(max(steps, 1), MAX_NEWEST_STEPS)


def decide(
    state: MarketState,
    check: Check,
    end_ts: float,
    market: tuple[str, str | None],
    source: tuple[str, str | None],
    rule: Rule,
) -> tuple[MarketState, Alert | None]:
    """The new state of a market, and the alert that follows, if any.

    ``market`` is its id and title, ``source`` the model of the band and the reason of a fallback.
    """
    state = replace(state, checked_ts=end_ts)
    lasts = state.since_ts and check.breach == state.breach
    if not lasts:
        state = replace(state, since_ts=0.0, breach="none", told=0)
        if not is_unusual(check, rule):
            return state, None
        state = replace(state, since_ts=end_ts, breach=check.breach)
    severity = Severity[check.severity.upper()]
    if severity is Severity.HOLDS:
        after = replace(state, since_ts=0.0, breach="none", told=0)
    else:
        after = replace(state, told=max(state.told, severity))
    if severity < rule.severity or severity <= state.told:
        return after, None
    (market_id, title), (model, fallback_reason) = market, source
    return after, Alert(
        id=_id_of(market_id, state.since_ts, severity),
        market_id=market_id,
        title=title,
        ts=end_ts,
        severity=severity.name.lower(),
        breach=check.breach,
        price=check.price or 0.0,
        beyond_widths=round(check.beyond_widths, 3),
        p_value=_value(check.p_value),
        held_share=_value(check.held_share),
        model=model,
        fallback_reason=fallback_reason,
    )


def is_unusual(check: Check, rule: Rule) -> bool:
    """Whether a price outside its band begins an alert."""
    if check.breach == "none":
        return False
    if check.p_value is not None:
        return check.p_value.value <= rule.p_value
    return check.beyond_widths >= rule.beyond_widths


def _value(figure: LearnedFigure | None) -> float | None:
    return None if figure is None else figure.value


def _id_of(market_id: str, since_ts: float, severity: Severity) -> str:
    """The same for the same alert, also after a restart."""
    text = f"{market_id}|{since_ts:.0f}|{severity.name}"
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
