"""Whole cycles against the app with fakes behind it, over ASGI."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from httpx import ASGITransport

from serve_app.watch.alerts import Rule
from serve_app.watch.cycle import Outcome, Plan, Rank, run_cycle
from serve_app.watch.journal import Journal
from serve_app.watch.metrics import WatchMetrics
from serve_app.watch.quotes import Quotes, Reading, SourceError
from serve_app.watch.watcher import Watcher
from tests.support.bench import Bench
from tests.support.builders import make_answer, make_bands
from tests.support.learning import make_learning
from tsfm_client import AsyncClient, Retries

STEP_S = 300
NOW = 1_760_000_100.0
PLAN = Plan("5m", STEP_S, 40, Rule())


class FakeSource:
    """Markets with 40 prices up to now; the newest ones are as given."""

    def __init__(self, **newest: Sequence[float]) -> None:
        self.newest, self.skipped = newest, dict[str, str]()
        self.error: Exception | None = None
        self.options: dict[str, dict[str, Any]] = {}

    async def read(self, now: float) -> Reading:
        if self.error:
            raise self.error
        end = now // STEP_S * STEP_S
        times = (end - STEP_S * np.arange(39, -1, -1)).tolist()
        past = [0.45, 0.44] * 20
        quotes = [
            Quotes(name, times, [*past[: 40 - len(last)], *last], **self.options.get(name, {}))
            for name, last in self.newest.items()
        ]
        return Reading(quotes, dict(self.skipped))


class Watch:
    """A source, the service, and what is remembered."""

    def __init__(self, bench: Bench, source: FakeSource) -> None:
        bench.model.outcome = make_answer(bands=make_bands(12))  # 0.3, 0.45, 0.6
        self.source, self.journal = source, Journal(":memory:")
        transport = ASGITransport(bench.app, raise_app_exceptions=False)
        self.client = AsyncClient("http://test", transport=transport, retries=Retries(attempts=1))

    async def cycle(self, now: float = NOW, plan: Plan = PLAN) -> Outcome:
        return await run_cycle(self.source, self.client, self.journal, ("lines",), plan, now)


async def test_top_markets_are_ranked_by_volume_activity_or_skill() -> None:
    learning = make_learning()  # the model is known best where a price stands still at the edge
    watch = Watch(
        Bench(learning=learning), FakeSource(traded=[0.45], moving=[0.46], still=[0.02] * 40)
    )
    watch.source.options["traded"] = {"volume": 9.0}

    async def first(rank: str) -> set[str]:
        return set((await watch.cycle(NOW, replace(PLAN, top=1, rank=Rank(rank)))).checks)

    assert await first("volume") == {"traded"}
    assert await first("skill") == {"still"}
    assert await first("activity") == {"moving"}


async def test_price_outside_its_band_gives_an_alert_and_others_none(bench: Bench) -> None:
    watch = Watch(bench, FakeSource(calm=[0.45], up=[0.95]))

    outcome = await watch.cycle()

    assert set(outcome.checks) == {"calm", "up"}
    (alert,) = outcome.alerts
    assert (alert.market_id, alert.breach, alert.severity) == ("up", "above", "breach")
    assert (alert.model, alert.fallback_reason) == ("fracast-0", None)
    assert [one.alert["id"] for one in watch.journal.waiting("lines", 9)] == [alert.id]


async def test_alert_rises_while_the_price_stays_outside(bench: Bench) -> None:
    watch = Watch(bench, FakeSource(up=[0.95]))
    told = []
    for step in range(13):
        watch.source.newest["up"] = [0.95] * (step + 1)
        outcome = await watch.cycle(NOW + step * STEP_S)
        told += [(step, alert.severity) for alert in outcome.alerts]

    assert told == [(0, "breach"), (1, "run"), (11, "holds"), (12, "breach")]


async def test_price_that_was_checked_is_not_checked_again(bench: Bench) -> None:
    watch = Watch(bench, FakeSource(up=[0.95]))
    await watch.cycle()

    again = await watch.cycle(NOW + 60)

    assert (again.checks, again.alerts) == ({}, [])
    assert again.skipped == {"up": "its newest price was checked before"}


async def test_markets_without_a_check_have_a_reason_and_the_cycle_goes_on(bench: Bench) -> None:
    source = FakeSource(up=[0.95], wild=[7.0], gone=[0.5])
    source.options["gone"] = {"is_closed": True}
    source.skipped["lost"] = "status 404"
    watch = Watch(bench, source)
    plan = Plan("5m", STEP_S, 40, Rule(), market_options={"up": {"quantiles": [0.9, 0.1]}})

    outcome = await watch.cycle(plan=plan)

    assert outcome.checks == {}
    refused = outcome.skipped.pop("up")
    assert refused.startswith("the service refused it: ")
    assert outcome.skipped == {
        "lost": "status 404",
        "wild": "its prices are not between 0 and 1",
        "gone": "it is closed",
    }


async def test_rule_of_a_single_market_holds_for_it_alone(bench: Bench) -> None:
    watch = Watch(bench, FakeSource(one=[0.95], other=[0.95]))
    plan = Plan("5m", STEP_S, 40, Rule(), rules={"one": Rule(beyond_widths=99.0)})

    outcome = await watch.cycle(plan=plan)

    assert [alert.market_id for alert in outcome.alerts] == ["other"]


@pytest.mark.parametrize(
    ("changes", "checked"),
    [
        ({"top": 2}, {"large", "lively"}),
        ({"top": 1}, {"large"}),
        ({"top": 1, "markets": frozenset({"calm", "unknown"})}, {"calm"}),  # unknown: see below
    ],
)
async def test_top_markets_are_those_with_volume_then_those_that_move(
    bench: Bench, changes, checked: set[str]
) -> None:
    source = FakeSource(calm=[0.45] * 38, lively=[0.45], large=[0.45] * 38)
    source.options["large"] = {"volume": 5.0}
    watch = Watch(bench, source)

    outcome = await watch.cycle(plan=Plan("5m", STEP_S, 40, Rule(), **changes))

    assert set(outcome.checks) == checked
    assert ("unknown" in outcome.skipped) is ("markets" in changes)


async def test_fallbacks_of_a_cycle_are_counted_by_reason(bench: Bench) -> None:
    watch = Watch(bench, FakeSource(calm=[0.45], up=[0.95]))
    plan = Plan("5m", STEP_S, 40, Rule(), options={"liquidity_bucket": "low"})

    outcome = await watch.cycle(plan=plan)

    assert outcome.fallbacks() == {"low_liquidity": 2}


def watcher(watch: Watch, **changes) -> Watcher:
    shared = (watch.source, watch.client, watch.journal, PLAN, ("lines",), WatchMetrics())
    return Watcher(*shared, lambda: NOW, **changes)


async def test_watch_survives_an_error_of_its_own(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Watch(bench, FakeSource())
    watch.source.error = RuntimeError("a surprise")

    report = await watcher(watch).cycle()

    assert report.failure == "an error of the watch itself (RuntimeError), which its log shows"
    assert "a surprise" in caplog.text


@pytest.mark.parametrize("error", [SourceError("example.com: status 500")])
async def test_failure_of_a_cycle_is_said_and_changes_nothing(
    bench: Bench, error: Exception
) -> None:
    watch = Watch(bench, FakeSource(up=[0.95]))
    watch.source.error = error

    report = await watcher(watch).cycle()

    assert (report.outcome, report.failure) == (None, str(error))
    assert watch.journal.states() == {}


async def test_service_that_cannot_be_reached_is_a_failure_of_the_cycle(bench: Bench) -> None:
    watch = Watch(bench, FakeSource(up=[0.95]))
    bench.under_way.batches = 10**6  # over every limit of overload

    report = await watcher(watch).cycle()

    assert report.outcome is None
    assert "overloaded" in str(report.failure)


async def test_cycle_that_takes_too_long_is_ended_and_said(bench: Bench) -> None:
    watch = Watch(bench, FakeSource(up=[0.95]))

    report = await watcher(watch, cycle_s=0.0).cycle()

    assert report.failure == "the cycle did not end within 0 s; nothing of it is used"
    assert watch.journal.waiting("lines", 9) == []


@pytest.mark.parametrize(("now", "pause_s"), [(3600.0, 5.0), (3605.0, 300.0), (3606.0, 299.0)])
def test_cycles_begin_a_little_after_each_step(bench: Bench, now: float, pause_s: float) -> None:
    watch = Watch(bench, FakeSource())
    shared = (watch.source, watch.client, watch.journal, PLAN, (), WatchMetrics(), lambda: now)

    assert Watcher(*shared).pause_s() == pause_s
