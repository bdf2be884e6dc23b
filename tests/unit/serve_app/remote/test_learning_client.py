import asyncio
import pickle
from typing import Any

import pytest
from ray.exceptions import RayTaskError

from runner.calibration.coverage import Actual, CoverageReport, Learned, OutcomeCounts
from runner.errors import OutcomesUnavailableError
from runner.forecast.answers import Outbox
from serve_app.remote.learning_client import MAX_RECORDS, Learning, LearningReply
from tests.support.learning import make_seen, make_state
from tests.support.virtual_time import in_virtual_time

INTERVAL_S = 2.0
COUNTS = OutcomeCounts(1, 1, 0, 3)
GONE = ConnectionError("died")
BROKEN = RayTaskError("exchange", "trace", KeyError("x"))


class FakeActor:
    """Receives records and answers with a state; can fail or be slow."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.calls = 0
        self.error: Exception | None = None
        self.delay_s = 0.0
        self.version = (7, 0)
        self.learned = Learned(make_state(factor=2.0), {})

    async def call(self, method: str, *args: Any) -> Any:
        await asyncio.sleep(self.delay_s)
        if self.error:
            raise self.error
        if method == "outcomes":
            return COUNTS
        notes, known = args
        self.calls += 1
        self.received += [record.market_id for record in pickle.loads(notes)]  # our own
        learned = None if known == self.version else self.learned
        return LearningReply(self.version, learned, CoverageReport(0.8, markets=len(self.received)))


class Replica:
    """A replica's client, its outbox, and the states that its answers were calibrated by."""

    def __init__(self) -> None:
        self.actor = FakeActor()
        self.outbox = Outbox(1000)
        self.states: list[Learned] = []
        shared = (self.actor.call, self.states.append, INTERVAL_S, CoverageReport(0.8))
        self.learning = Learning(self.outbox, *shared)

    def answers(self, *markets: str) -> None:
        for market in markets:
            self.outbox.add(make_seen(0, 0.5, market=market))


async def test_records_are_sent_once_and_each_new_state_is_used_once() -> None:
    replica = Replica()
    replica.answers("a", "b")
    for _ in range(2):
        await replica.learning.exchange()
    first, replica.actor.version = replica.actor.learned, (7, 12)
    replica.actor.learned = Learned(make_state(), {})
    await replica.learning.exchange()

    assert replica.actor.received == ["a", "b"]
    assert replica.states == [first, replica.actor.learned]
    assert replica.learning.report.markets == 2


async def test_many_records_are_sent_in_several_calls() -> None:
    replica = Replica()
    replica.answers(*(f"m-{i}" for i in range(2 * MAX_RECORDS + 3)))
    await replica.learning.exchange()

    assert len(replica.actor.received) == 2 * MAX_RECORDS + 3
    assert replica.actor.calls == 3


@pytest.mark.parametrize(
    ("error", "dropped", "exchanges", "warning"),
    [
        (GONE, 0, {"ok": 2, "lost": 3}, "Lost the learning actor (ConnectionError)"),
        (BROKEN, 1, {"ok": 2, "failed": 3}, "1 answers are not used"),  # they would fail again
    ],
)
async def test_records_of_a_lost_actor_are_kept_and_those_of_a_failed_call_are_dropped(
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    dropped: int,
    exchanges: dict[str, int],
    warning: str,
) -> None:
    replica = Replica()
    await replica.learning.exchange()
    replica.actor.error = error
    replica.answers("a")
    for _ in range(3):
        await replica.learning.exchange()
    assert len(replica.outbox) == 1 - dropped
    assert len(caplog.records) == 1  # one for all failures

    replica.actor.error = None
    await replica.learning.exchange()

    assert replica.actor.received == ["a"] * (1 - dropped)
    assert replica.learning.dropped_notes == dropped
    assert replica.learning.exchanges == exchanges
    assert len(replica.states) == 1
    assert warning in caplog.records[0].getMessage()
    assert "is back" in caplog.records[1].getMessage()


@in_virtual_time
async def test_exchange_with_an_actor_that_hangs_ends_after_five_seconds() -> None:
    replica = Replica()
    replica.actor.delay_s = 3600.0
    replica.answers("a")

    await replica.learning.exchange()

    assert asyncio.get_running_loop().time() == 5.0
    assert len(replica.outbox) == 1


@in_virtual_time
async def test_started_client_makes_one_call_per_interval() -> None:
    replica = Replica()
    replica.answers(*(f"m-{i}" for i in range(3 * MAX_RECORDS)))
    replica.learning.start()
    await asyncio.sleep(1.5 * INTERVAL_S)

    assert len(replica.actor.received) == 2 * MAX_RECORDS
    assert len(replica.outbox) == MAX_RECORDS


@in_virtual_time
async def test_records_of_a_cancelled_exchange_are_kept() -> None:
    replica = Replica()
    replica.actor.delay_s = 1.0
    replica.answers("a")
    caller = asyncio.ensure_future(replica.learning.outcomes([]))
    await asyncio.sleep(0.5)
    caller.cancel()
    await asyncio.wait([caller])

    assert len(replica.outbox) == 1


async def test_outcomes_are_sent_after_the_forecasts_they_may_be_of() -> None:
    replica = Replica()
    replica.answers("a")

    assert await replica.learning.outcomes([Actual("a", 0.0, 0.5)]) == COUNTS
    assert replica.actor.received == ["a"]


@pytest.mark.parametrize("error", [GONE, BROKEN])
async def test_outcomes_that_cannot_be_sent_are_refused_with_a_time_to_retry(
    error: Exception,
) -> None:
    replica = Replica()
    replica.actor.error = error

    with pytest.raises(OutcomesUnavailableError) as caught:
        await replica.learning.outcomes([Actual("a", 0.0, 0.5)])

    assert caught.value.retry_after_s == INTERVAL_S


async def test_records_of_an_exchange_that_worked_are_passed_on() -> None:
    replica, passed = Replica(), list[str]()
    shared = (replica.actor.call, replica.states.append, INTERVAL_S, CoverageReport(0.8))
    learning = Learning(
        replica.outbox, *shared, lambda records: passed.extend(r.market_id for r in records)
    )
    replica.answers("a", "b")
    replica.actor.error = GONE
    await learning.exchange()
    assert passed == []
    replica.actor.error = None
    await learning.exchange()

    assert passed == ["a", "b"]
