"""One cycle: read the prices, have them checked in one batch, record what follows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any

import numpy as np

from runner.calibration.skill import skill_segment
from serve_app.watch.alerts import Alert, MarketState, Rule, decide, steps_to_check
from serve_app.watch.journal import Journal
from serve_app.watch.quotes import Quotes, Source, Window, window_of
from tsfm_client import AsyncClient, Check, Forecast


class Rank(StrEnum):
    """Which markets come first."""

    VOLUME = "volume"  # most traded; without a volume, most moves
    ACTIVITY = "activity"  # most moves
    SKILL = "skill"  # where the model's measured skill against the baseline is greatest


Skills = Mapping[str, float]  # by segment


@dataclass(frozen=True, slots=True)
class Plan:
    """What a cycle asks of the service and of its answers."""

    freq: str
    step_s: int
    points: int
    rule: Rule
    rules: Mapping[str, Rule] = field(default_factory=dict)  # of single markets
    options: Mapping[str, Any] = field(default_factory=dict)  # of every request
    market_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    markets: frozenset[str] = frozenset()  # the only ones that are watched; empty: all
    top: int | None = None  # of all: so many, the first by `rank`
    rank: Rank = Rank.VOLUME


@dataclass(slots=True)
class Outcome:
    """What became of the markets of one cycle."""

    checks: dict[str, tuple[Window, Forecast]] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # by market, the reason

    def fallbacks(self) -> Counter[str]:
        """How many checks are by the baseline or an expired answer, by reason."""
        reasons = (answer.meta.fallback_reason for _, answer in self.checks.values())
        return Counter(reason for reason in reasons if reason is not None)


async def run_cycle(
    source: Source,
    client: AsyncClient,
    journal: Journal,
    receivers: Sequence[str],
    plan: Plan,
    now: float,
) -> Outcome:
    """Checks every market of the source; raises SourceError and ClientError before any change."""
    reading = await source.read(now)
    outcome = Outcome(skipped=dict(reading.skipped))
    states = journal.states()
    skills = _skills(await client.skill()) if plan.rank is Rank.SKILL else {}
    quotes = watched(reading.quotes, plan, skills)
    known = {one.market_id for one in reading.quotes} | outcome.skipped.keys()
    outcome.skipped |= dict.fromkeys(sorted(plan.markets - known), "the source does not have it")
    windows = _windows(quotes, states, plan, now, outcome.skipped)
    steps = [steps_to_check(state_of(states, one), one.end_ts, plan.step_s) for one in windows]
    bodies = [
        one.body(plan.freq, count, {**plan.options, **plan.market_options.get(one.market_id, {})})
        for one, count in zip(windows, steps, strict=True)
    ]
    changes = []
    async for number, result in client.forecast_many(bodies):
        window = windows[number]
        if not isinstance(result, Forecast) or result.check is None:
            outcome.skipped[window.market_id] = f"the service refused it: {result}"
            continue
        outcome.checks[window.market_id] = (window, result)
        state, alert = _decide(states, window, result, result.check, plan)
        changes.append((window.market_id, state, alert))
    journal.record(changes, receivers, now)
    outcome.alerts = [alert for _, _, alert in changes if alert]
    return outcome


def watched(quotes: Sequence[Quotes], plan: Plan, skills: Skills) -> Sequence[Quotes]:
    """The markets of the plan, else the first ones by its rank."""
    if plan.markets:
        return [one for one in quotes if one.market_id in plan.markets]
    return sorted(quotes, key=lambda one: _rank(one, plan, skills), reverse=True)[: plan.top]


def _rank(quotes: Quotes, plan: Plan, skills: Skills) -> tuple[float, ...]:
    """Greater comes first; what is not known comes last, by volume and moves."""
    moves = sum(a != b for a, b in pairwise(quotes.prices))
    rest = quotes.volume or 0.0, moves
    if plan.rank is Rank.ACTIVITY:
        return moves, *rest
    if plan.rank is Rank.SKILL:
        prices = np.asarray(quotes.prices[-plan.points :], dtype=np.float64)
        return skills.get(skill_segment(prices, plan.freq, None), -np.inf), *rest
    return rest


def _skills(found: Mapping[str, Any]) -> Skills:
    """The greatest skill of any model in each segment."""
    skills: dict[str, float] = {}
    for row in found["skill"]:
        if row["skill"] is not None:
            skills[row["segment"]] = max(row["skill"], skills.get(row["segment"], -np.inf))
    return skills


def state_of(states: Mapping[str, MarketState], window: Window) -> MarketState:
    """The state of a market; a new one if it was never seen."""
    return states.get(window.market_id, MarketState())


def _windows(
    quotes: Sequence[Quotes],
    states: Mapping[str, MarketState],
    plan: Plan,
    now: float,
    skipped: dict[str, str],
) -> list[Window]:
    """The markets that can be checked; the reasons of the others are added to ``skipped``."""
    windows = []
    for one in quotes:
        window = window_of(one, now, plan.step_s, plan.points)
        if isinstance(window, str):
            skipped[one.market_id] = window
        elif window.end_ts <= state_of(states, window).checked_ts:
            skipped[one.market_id] = "its newest price was checked before"
        else:
            windows.append(window)
    return windows


def _decide(
    states: Mapping[str, MarketState], window: Window, answer: Forecast, check: Check, plan: Plan
) -> tuple[MarketState, Alert | None]:
    market = window.market_id, window.title
    source = answer.meta.model_name, answer.meta.fallback_reason
    rule = plan.rules.get(window.market_id, plan.rule)
    return decide(state_of(states, window), check, window.end_ts, market, source, rule)
