import asyncio
import pickle
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError, RayTaskError

from runner.calibration.coverage import Actual, CoverageReport, ForecastRecord, OutcomeCounts
from runner.calibration.state import ConformalState
from runner.errors import OutcomesUnavailableError
from runner.forecast.answers import AnswerStore, Outbox
from runner.forecast.resolved_request import resolve_request
from runner.types import FallbackReason
from serve_app.remote.learning_actor import LearningReply, Version
from serve_app.remote.learning_client import (
    TOLD_AT_ONCE,
    Learning,
    LearningFailedError,
    LearningLostError,
    RayLearningPort,
)
from tests.support.builders import make_bands, make_config, make_registry, make_request
from tests.support.learning import make_state
from tests.support.virtual_time import run_virtual

CONFIG, REGISTRY = make_config(), make_registry()
INTERVAL_S = 2.0
COUNTS = OutcomeCounts(1, 1, 0, 3)


class FakeActor:
    """Hears notes and answers with a state of its own; can be gone, slow or broken."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.calls = 0
        self.gone = False
        self.broken = False
        self.delay_s = 0.0
        self.version: Version = (7, 0)
        self.state = make_state(factor=2.0)

    async def exchange(self, notes: bytes, known: Version | None) -> LearningReply:
        self.calls += 1
        batch: list[ForecastRecord] = pickle.loads(notes)  # our own
        await self._be_there()
        self.told += [seen.market_id for seen in batch]
        report = CoverageReport(0.8, markets=len(self.told))
        return LearningReply(self.version, None if known == self.version else self.state, report)

    async def outcomes(self, sent: Sequence[Actual]) -> OutcomeCounts:
        await self._be_there()
        return COUNTS

    async def _be_there(self) -> None:
        await asyncio.sleep(self.delay_s)
        if self.broken:
            raise LearningFailedError("KeyError")
        if self.gone:
            raise LearningLostError("ActorDiedError")


class Replica:
    """A replica's notes, and the states that its answers were calibrated by."""

    def __init__(self, actor: FakeActor, room: int = 1000) -> None:
        self.notes = Outbox(room)
        self.states: list[ConformalState] = []
        report = CoverageReport(0.8)
        self.learning = Learning(self.notes, actor, self.states.append, INTERVAL_S, report)

    def note(self, *markets: str) -> None:
        for market in markets:
            plan = resolve_request(make_request(market_id=market), REGISTRY, CONFIG)
            self.notes.add(plan, "ewma", make_bands())


async def test_notes_are_told_once_and_what_is_known_is_heard() -> None:
    actor = FakeActor()
    replica = Replica(actor)
    replica.note("a", "b")
    await replica.learning.exchange()
    await replica.learning.exchange()

    assert actor.told == ["a", "b"]
    assert replica.states == [actor.state]
    assert replica.learning.report.markets == 2


async def test_new_version_is_used_from_then_on() -> None:
    actor = FakeActor()
    replica = Replica(actor)
    await replica.learning.exchange()
    actor.version, actor.state = (7, 12), make_state(factor=3.0)
    await replica.learning.exchange()

    assert replica.states[-1] is actor.state
    assert len(replica.states) == 2


async def test_answers_are_calibrated_by_what_was_learned() -> None:
    actor = FakeActor()
    answers = AnswerStore(CONFIG, lambda: 0.0, lambda: 0.0)
    report = CoverageReport(0.8)
    learning = Learning(Outbox(9), actor, answers.calibrate_by, INTERVAL_S, report)
    await learning.exchange()

    plan = resolve_request(make_request(conformal=True), REGISTRY, CONFIG)
    reason = FallbackReason.OVERLOADED
    forecast = answers.from_baseline(plan, make_bands(), reason)
    assert forecast.conformal is not None


async def test_many_notes_are_told_in_several_calls() -> None:
    actor = FakeActor()
    replica = Replica(actor)
    replica.note(*(f"m-{i}" for i in range(2 * TOLD_AT_ONCE + 3)))
    await replica.learning.exchange()

    assert len(actor.told) == 2 * TOLD_AT_ONCE + 3
    assert actor.calls == 3


async def test_notes_wait_while_the_actor_is_gone_and_answers_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    actor = FakeActor()
    replica = Replica(actor)
    await replica.learning.exchange()
    actor.gone = True
    replica.note("a")
    for _ in range(3):
        await replica.learning.exchange()
    assert len(replica.notes) == 1
    assert caplog.text.count("Lost the learning actor (ActorDiedError)") == 1

    actor.gone = False
    await replica.learning.exchange()

    assert actor.told == ["a"]
    assert replica.learning.exchanges == {"ok": 2, "lost": 3}
    assert len(replica.states) == 1
    assert caplog.text.count("is back") == 1


async def test_notes_are_bounded_while_the_actor_is_gone() -> None:
    actor = FakeActor()
    actor.gone = True
    replica = Replica(actor, room=2)
    replica.note("a", "b")
    await replica.learning.exchange()
    replica.note("c")

    assert len(replica.notes) == 2
    assert replica.learning.dropped_notes == 1


async def test_notes_that_cannot_be_learned_from_are_not_told_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    actor = FakeActor()
    actor.broken = True
    replica = Replica(actor)
    replica.note("a", "b")
    await replica.learning.exchange()

    assert len(replica.notes) == 0
    assert replica.learning.dropped_notes == 2
    assert replica.learning.exchanges == {"failed": 1}
    assert "Learning failed (KeyError): 2 answers are not learned from" in caplog.text


async def test_actor_that_fails_again_and_again_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    actor = FakeActor()
    actor.broken = True
    replica = Replica(actor)
    for _ in range(3):
        replica.note("a")
        await replica.learning.exchange()
    assert replica.learning.dropped_notes == 3
    assert len(caplog.records) == 1

    actor.broken = False
    await replica.learning.exchange()
    assert "is back" in caplog.records[-1].getMessage()


def test_actor_that_hangs_is_lost_for_now() -> None:
    async def main() -> None:
        actor = FakeActor()
        actor.delay_s = 3600.0
        replica = Replica(actor)
        replica.note("a")

        await replica.learning.exchange()

        assert asyncio.get_running_loop().time() == 5.0
        assert len(replica.notes) == 1

    run_virtual(main())


def test_exchange_goes_on_by_itself_until_it_is_stopped() -> None:
    async def main() -> None:
        actor = FakeActor()
        replica = Replica(actor)
        replica.learning.start()
        replica.learning.start()
        await asyncio.sleep(0)
        replica.note("a")
        await asyncio.sleep(2 * INTERVAL_S + 0.1)
        await replica.learning.stop()
        await replica.learning.stop()
        replica.note("b")
        await asyncio.sleep(60)

        assert actor.told == ["a"]
        assert actor.calls == 3

    run_virtual(main())


def test_flood_of_answers_is_told_at_a_steady_pace() -> None:
    async def main() -> None:
        actor = FakeActor()
        replica = Replica(actor)
        replica.note(*(f"m-{i}" for i in range(3 * TOLD_AT_ONCE)))
        replica.learning.start()
        await asyncio.sleep(1.5 * INTERVAL_S)
        await replica.learning.stop()

        assert len(actor.told) == 2 * TOLD_AT_ONCE
        assert len(replica.notes) == TOLD_AT_ONCE

    run_virtual(main())


def test_note_of_an_exchange_that_was_broken_off_is_not_lost() -> None:
    async def main() -> None:
        actor = FakeActor()
        actor.delay_s = 1.0
        replica = Replica(actor)
        replica.note("a")
        replica.learning.start()
        await asyncio.sleep(0.5)

        await replica.learning.stop()

        assert len(replica.notes) == 1

    run_virtual(main())


async def test_outcomes_are_sent_after_the_forecasts_they_may_be_of() -> None:
    actor = FakeActor()
    replica = Replica(actor)
    replica.note("a")

    counts = await replica.learning.outcomes([Actual("a", 0.0, 0.5)])

    assert counts == COUNTS
    assert actor.told == ["a"]


@pytest.mark.parametrize("fault", ["gone", "broken"])
async def test_outcomes_that_cannot_be_sent_are_refused_for_now(fault: str) -> None:
    actor = FakeActor()
    setattr(actor, fault, True)

    with pytest.raises(OutcomesUnavailableError) as caught:
        await Replica(actor).learning.outcomes([Actual("a", 0.0, 0.5)])

    assert caught.value.retry_after_s == INTERVAL_S


def port_to(answer: object) -> RayLearningPort:
    """A port whose actor gives, or raises, ``answer``."""

    async def remote(*_: object) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    method = SimpleNamespace(remote=remote)
    return RayLearningPort(lambda: SimpleNamespace(exchange=method, outcomes=method))


async def test_port_hands_on_what_the_actor_says() -> None:
    assert await port_to(COUNTS).outcomes([]) is COUNTS
    reply = LearningReply((7, 0), None, CoverageReport(0.8))
    assert await port_to(reply).exchange(b"", None) is reply


async def test_actor_that_died_is_lost_and_one_that_raised_has_failed() -> None:
    with pytest.raises(LearningLostError, match="RayActorError"):
        await port_to(RayActorError()).outcomes([])
    with pytest.raises(LearningFailedError):
        await port_to(RayTaskError("learn", "trace", KeyError("x"))).outcomes([])


async def test_actor_that_is_not_there_is_lost() -> None:
    def missing() -> object:
        raise ValueError("no such actor")

    with pytest.raises(LearningLostError, match="ValueError"):
        await RayLearningPort(missing).exchange(b"", None)
