import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest

from runner.breaker import Permit
from runner.breaker_board import Command
from runner.breaker_sync import SharedBoard, SyncReply, SyncRequest
from runner.errors import BreakerOpenError
from runner.types import BreakerState
from serve_app.breaker_client import RayBreakerPort, SharedBreakerLostError, SharedBreakers
from tests.breakers import (
    FAILURE,
    FAST_S,
    IGNORED,
    SUCCESS,
    make_replica,
    make_settings,
    make_shared,
)
from tests.virtual_time import run_virtual

CLOSED = BreakerState.CLOSED
OPEN = BreakerState.OPEN
FORCED_OPEN = BreakerState.FORCED_OPEN


def clock() -> float:
    return asyncio.get_running_loop().time()


class FakeActor:
    """The shared board behind a port that can be gone, or slow in both directions."""

    def __init__(self, shared: SharedBoard | None = None) -> None:
        self.shared = shared or make_shared()
        self.gone = False
        self.delay_s = 0.0
        self.syncs = 0
        self.asked = 0

    async def sync(self, request: SyncRequest) -> SyncReply:
        self.syncs += 1
        return await self._answer(lambda: self.shared.sync(request, clock()))

    async def acquire(self, name: str, request: SyncRequest) -> SyncReply:
        self.asked += 1
        return await self._answer(lambda: self.shared.acquire(name, request, clock()))

    async def command(self, name: str, command: Command) -> BreakerState:
        if self.gone:
            raise SharedBreakerLostError("ActorDiedError")
        return self.shared.command(name, command, clock())

    async def _answer(self, decide: Callable[[], SyncReply]) -> SyncReply:
        if self.gone:
            raise SharedBreakerLostError("ActorDiedError")
        reply = decide()
        await asyncio.sleep(self.delay_s)
        return reply


def make_breakers(actor: FakeActor, name: str = "r1", **changes) -> SharedBreakers:
    return SharedBreakers(make_replica(name, **changes), actor, make_settings(**changes), clock)


async def fail(breakers: SharedBreakers, times: int = 3) -> None:
    for _ in range(times):
        breakers.record("m", await breakers.acquire("m"), FAILURE, FAST_S)


async def refusal(breakers: SharedBreakers) -> float:
    """Seconds to wait, of an acquire that must be refused."""
    with pytest.raises(BreakerOpenError) as caught:
        await breakers.acquire("m")
    return caught.value.retry_in_s


async def half_open(actor: FakeActor, *names: str, **changes) -> list[SharedBreakers]:
    """Replicas that all know the breaker of "m", whose cooldown is just over."""
    replicas = [make_breakers(actor, name, **changes) for name in names]
    for breakers in replicas:
        await breakers.sync()
    await fail(replicas[0])
    for breakers in replicas:
        await breakers.sync()
    await asyncio.sleep(100.0)
    return replicas


class TestOrdinaryCalls:
    def test_need_no_actor_and_no_waiting(self):
        async def main():
            actor = FakeActor()
            actor.gone = True
            breakers = make_breakers(actor)

            await fail(breakers)

            assert (breakers.state("m"), breakers.retry_in_s("m")) == (OPEN, 100.0)
            assert await refusal(breakers) == 100.0
            assert actor.asked == 0
            assert clock() == 0.0

        run_virtual(main())

    def test_two_replicas_agree_within_a_second_that_a_model_is_down(self):
        async def main():
            actor = FakeActor()
            one, two = make_breakers(actor, "r1"), make_breakers(actor, "r2")
            one.start()
            two.start()
            await asyncio.sleep(10.1)

            await fail(one)
            await asyncio.sleep(1.0)

            assert (one.state("m"), two.state("m")) == (OPEN, OPEN)
            await one.stop()
            await two.stop()

        run_virtual(main())

    def test_two_replicas_agree_within_a_second_though_every_call_takes_almost_too_long(self):
        async def main():
            actor = FakeActor()
            actor.delay_s = 0.19
            one, two = make_breakers(actor, "r1"), make_breakers(actor, "r2")
            one.start()
            await asyncio.sleep(0.2)
            two.start()
            await asyncio.sleep(10.0)

            for _ in range(20):
                actor.shared.command("m", Command.RESET, clock())
                await asyncio.sleep(1.07)
                assert (one.state("m"), two.state("m")) == (CLOSED, CLOSED)
                await fail(one)
                await asyncio.sleep(1.0)
                assert (one.state("m"), two.state("m")) == (OPEN, OPEN)
            await one.stop()
            await two.stop()

        run_virtual(main())


class TestCommands:
    def test_both_replicas_obey_within_half_a_second_and_the_one_asked_at_once(self):
        async def main():
            actor = FakeActor()
            one, two = make_breakers(actor, "r1"), make_breakers(actor, "r2")
            one.start()
            two.start()
            await asyncio.sleep(10.1)

            told = await one.command("m", Command.FORCE_OPEN)
            at_once = one.state("m")
            await asyncio.sleep(0.5)

            assert (told, at_once, two.state("m")) == (FORCED_OPEN, FORCED_OPEN, FORCED_OPEN)
            await one.stop()
            await two.stop()

        run_virtual(main())

    async def test_without_the_actor_nobody_is_told_anything(self):
        actor = FakeActor()
        actor.gone = True
        breakers = make_breakers(actor)

        with pytest.raises(SharedBreakerLostError):
            await breakers.command("m", Command.FORCE_OPEN)
        assert breakers.state("m") is CLOSED

    async def test_command_reaches_the_actor_as_a_plain_word(self):
        seen = []

        async def answer(*given):
            seen.append(given)
            return FORCED_OPEN

        port = RayBreakerPort(lambda: SimpleNamespace(command=SimpleNamespace(remote=answer)))

        assert await port.command("m", Command.FORCE_OPEN) is FORCED_OPEN
        assert seen == [("m", "force_open")]


class TestProbes:
    def test_only_one_of_two_replicas_probes(self):
        async def main():
            actor = FakeActor()
            one, two = await half_open(actor, "r1", "r2")

            probe = await one.acquire("m")
            wait_s = await refusal(two)

            assert probe == Permit(2, "shared1000-1")
            assert wait_s == 5.0

        run_virtual(main())

    def test_a_good_probe_opens_the_door_for_its_replica_at_once(self):
        async def main():
            actor = FakeActor()
            (breakers,) = await half_open(actor, "r1")

            breakers.record("m", await breakers.acquire("m"), SUCCESS, FAST_S)

            assert breakers.state("m") is CLOSED
            assert await breakers.acquire("m") == Permit(3)
            assert actor.asked == 1

        run_virtual(main())

    def test_a_crowd_in_one_replica_asks_the_actor_once(self):
        async def main():
            actor = FakeActor()
            (breakers,) = await half_open(actor, "r1")
            actor.delay_s = 0.1

            answers = await asyncio.gather(
                *(breakers.acquire("m") for _ in range(50)), return_exceptions=True
            )

            assert actor.asked == 1
            assert [a for a in answers if isinstance(a, Permit)] == [Permit(2, "shared1000-1")]
            waits = {a.retry_in_s for a in answers if isinstance(a, BreakerOpenError)}
            assert waits == {0.2}

        run_virtual(main())

    def test_a_crowd_asks_once_for_each_probe_allowed_and_again_when_answered(self):
        async def main():
            actor = FakeActor(make_shared(probes=2))
            (breakers,) = await half_open(actor, "r1", probes=2)
            actor.delay_s = 0.1

            asked = []
            for _ in range(3):
                crowd = (breakers.acquire("m") for _ in range(50))
                answers = await asyncio.gather(*crowd, return_exceptions=True)
                for permit in (a for a in answers if isinstance(a, Permit)):
                    breakers.record("m", permit, IGNORED, FAST_S)
                asked.append(actor.asked)

            assert asked == [2, 4, 6]

        run_virtual(main())

    def test_a_caller_that_left_while_asking_blocks_nobody(self):
        async def main():
            actor = FakeActor()
            (breakers,) = await half_open(actor, "r1")
            actor.delay_s = 0.1

            caller = asyncio.create_task(breakers.acquire("m"))
            await asyncio.sleep(0.05)
            caller.cancel()
            await asyncio.wait([caller])
            await asyncio.sleep(5.0)

            assert await breakers.acquire("m") == Permit(2, "shared1000-2")

        run_virtual(main())

    @pytest.mark.parametrize("trouble", ["gone", "slow"])
    def test_a_probe_is_taken_alone_when_the_actor_does_not_answer(self, trouble):
        async def main():
            actor = FakeActor()
            (breakers,) = await half_open(actor, "r1")
            actor.gone = trouble == "gone"
            actor.delay_s = 60.0
            began = clock()

            probe = await breakers.acquire("m")

            assert probe == Permit(2, "r1-1")
            assert clock() - began == pytest.approx(0.0 if actor.gone else 0.2)

        run_virtual(main())

    def test_a_replica_that_lost_the_actor_does_not_ask_it(self):
        async def main():
            actor = FakeActor()
            (breakers,) = await half_open(actor, "r1")
            actor.gone = True
            await breakers.sync()

            probe = await breakers.acquire("m")
            wait_s = await refusal(breakers)

            assert (probe, wait_s) == (Permit(2, "r1-1"), 5.0)
            assert actor.asked == 0

        run_virtual(main())

    def test_a_new_actor_hears_what_holds_before_it_gives_a_probe(self):
        async def main():
            actor = FakeActor()
            (breakers,) = await half_open(actor, "r1")
            actor.shared = make_shared(epoch=2000)

            wait_s = await refusal(breakers)
            await breakers.sync()
            probe = await breakers.acquire("m")

            assert wait_s == 0.25
            assert probe == Permit(2, "shared2000-1")

        run_virtual(main())


class TestSyncing:
    def test_a_stranger_introduces_itself_in_one_go(self):
        async def main():
            actor = FakeActor()
            breakers = make_breakers(actor)
            await fail(breakers)

            await breakers.sync()

            assert actor.syncs == 2
            assert actor.shared.status(clock())["m"]["state"] == "open"

        run_virtual(main())

    def test_a_known_replica_needs_one_round_trip(self):
        async def main():
            actor = FakeActor()
            breakers = make_breakers(actor)
            await breakers.sync()
            await fail(breakers)

            await breakers.sync()

            assert actor.syncs == 3
            assert actor.shared.status(clock())["m"]["state"] == "open"

        run_virtual(main())

    def test_runs_at_its_interval_from_start_to_stop(self):
        async def main():
            actor = FakeActor()
            breakers = make_breakers(actor)

            breakers.start()
            breakers.start()  # a second start is none
            await asyncio.sleep(10.1)
            await breakers.stop()
            await breakers.stop()  # nor is a second stop
            counted = actor.syncs
            await asyncio.sleep(10.0)

            assert counted == 1 + 41  # the first meeting takes two
            assert actor.syncs == counted

        run_virtual(main())

    def test_can_be_started_again(self):
        async def main():
            actor = FakeActor()
            breakers = make_breakers(actor)
            breakers.start()
            await asyncio.sleep(1.1)
            await breakers.stop()
            counted = actor.syncs

            breakers.start()
            await asyncio.sleep(1.1)
            await breakers.stop()

            assert actor.syncs == counted + 5

        run_virtual(main())

    def test_a_slow_first_meeting_has_the_time_limit_for_each_of_its_two_calls(self):
        async def main():
            actor = FakeActor()
            actor.delay_s = 0.19
            breakers = make_breakers(actor)
            await fail(breakers)

            await breakers.sync()

            assert actor.shared.status(clock())["m"]["state"] == "open"
            assert clock() == pytest.approx(0.38)

        run_virtual(main())

    def test_stopping_leaves_no_task_behind(self):
        async def main():
            breakers = make_breakers(FakeActor())
            breakers.start()
            await asyncio.sleep(1.0)

            await breakers.stop()

            assert asyncio.all_tasks() == {asyncio.current_task()}

        run_virtual(main())

    def test_a_hanging_actor_delays_the_next_try_by_its_time_limit_only(self):
        async def main():
            actor = FakeActor()
            breakers = make_breakers(actor)
            actor.delay_s = 1e6

            breakers.start()
            await asyncio.sleep(4.6)
            await breakers.stop()

            assert actor.syncs == 19  # no more slowly than ever

        run_virtual(main())

    def test_loss_and_return_are_logged_once_each(self, caplog):
        async def main():
            actor = FakeActor()
            breakers = make_breakers(actor)
            breakers.start()
            await asyncio.sleep(1.1)
            actor.gone = True
            await asyncio.sleep(1.0)
            actor.gone, actor.delay_s = False, 9.0
            await asyncio.sleep(1.0)
            actor.delay_s = 0.0
            await asyncio.sleep(2.0)
            await breakers.stop()

        with caplog.at_level(logging.WARNING):
            run_virtual(main())

        assert [r.getMessage() for r in caplog.records] == [
            "Lost the shared breaker (ActorDiedError); this replica decides alone.",
            "The shared breaker is back.",
        ]

    def test_an_actor_that_was_never_there_is_logged_with_the_reason(self, caplog):
        async def main():
            actor = FakeActor()
            actor.delay_s = 1.0
            await make_breakers(actor).sync()

        with caplog.at_level(logging.WARNING):
            run_virtual(main())

        assert [r.getMessage() for r in caplog.records] == [
            "Lost the shared breaker (no answer in time); this replica decides alone."
        ]

    def test_an_actor_that_comes_back_empty_is_told_by_the_replicas(self):
        async def main():
            actor = FakeActor()
            one, two = make_breakers(actor, "r1"), make_breakers(actor, "r2")
            one.start()
            two.start()
            await asyncio.sleep(1.1)
            actor.shared.command("m", Command.FORCE_OPEN, clock())
            await asyncio.sleep(1.0)
            actor.gone = True
            await asyncio.sleep(10.0)
            alone = one.state("m"), two.state("m")
            actor.shared, actor.gone = make_shared(epoch=2000), False
            await asyncio.sleep(1.0)

            assert alone == (FORCED_OPEN, FORCED_OPEN)
            assert actor.shared.status(clock())["m"]["state"] == "forced_open"
            await one.stop()
            await two.stop()

        run_virtual(main())

    def test_without_the_actor_a_replica_opens_probes_and_closes_alone(self):
        async def main():
            actor = FakeActor()
            actor.gone = True
            breakers = make_breakers(actor)
            breakers.start()
            await asyncio.sleep(0.1)

            await fail(breakers)
            await asyncio.sleep(100.0)
            breakers.record("m", await breakers.acquire("m"), SUCCESS, FAST_S)
            actor.gone = False
            await asyncio.sleep(1.0)

            assert breakers.state("m") is CLOSED
            assert actor.shared.status(clock())["m"]["state"] == "closed"
            assert actor.shared.status(clock())["m"]["generation"] == 3
            await breakers.stop()

        run_virtual(main())


class TestRayPort:
    REPLY = SyncReply(epoch=1)

    def handle(self, method: str, answer: Callable[..., Awaitable[SyncReply]]) -> SimpleNamespace:
        return SimpleNamespace(**{method: SimpleNamespace(remote=answer)})

    async def test_sync_reaches_the_actor_with_the_request(self):
        seen = []

        async def answer(request):
            seen.append(request)
            return self.REPLY

        port = RayBreakerPort(lambda: self.handle("sync", answer))

        assert await port.sync(SyncRequest("r1", 0, 0)) is self.REPLY
        assert seen == [SyncRequest("r1", 0, 0)]

    async def test_acquire_reaches_the_actor_with_name_and_request(self):
        seen = []

        async def answer(name, request):
            seen.append((name, request))
            return self.REPLY

        port = RayBreakerPort(lambda: self.handle("acquire", answer))

        assert await port.acquire("m", SyncRequest("r1", 0, 0)) is self.REPLY
        assert seen == [("m", SyncRequest("r1", 0, 0))]

    async def test_an_actor_that_does_not_exist_is_lost(self):
        def nobody():
            raise ValueError("Failed to look up actor")

        with pytest.raises(SharedBreakerLostError, match="ValueError"):
            await RayBreakerPort(nobody).sync(SyncRequest("r1", 0, 0))

    async def test_an_actor_that_dies_while_answering_is_lost(self):
        async def answer(_request):
            raise RuntimeError("The actor died unexpectedly")

        port = RayBreakerPort(lambda: self.handle("sync", answer))

        with pytest.raises(SharedBreakerLostError, match="RuntimeError"):
            await port.sync(SyncRequest("r1", 0, 0))


class TestWhatIsKnown:
    def test_every_breaker_that_was_used_with_its_state_and_the_wait(self):
        async def main():
            breakers = make_breakers(FakeActor())
            before = breakers.known()
            await fail(breakers)
            await asyncio.sleep(1.0)
            return before, breakers.known(), breakers.retry_in_s("m")

        before, after, retry_in_s = run_virtual(main())

        assert before == {}
        assert set(after) == {"m"}
        assert after["m"]["state"] == OPEN
        assert after["m"]["retry_in_s"] == pytest.approx(retry_in_s)
        assert retry_in_s > 0
