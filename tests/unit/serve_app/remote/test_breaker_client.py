import asyncio

import pytest

from runner.breaker.state_machine import Permit
from runner.errors import BreakerOpenError
from runner.types import BreakerCommand
from tests.support.virtual_time import run_virtual
from tests.unit.runner.breaker.breakers import (
    FAILURE,
    SUCCESS,
    FakeActor,
)
from tests.unit.serve_app.remote.breaker_clients import (
    CLOSED,
    FORCE_OPEN,
    FORCED_OPEN,
    OPEN,
    call,
    clock,
    half_open,
    make_client,
    opened,
    refusal,
    started,
    states,
)


class TestOrdinaryCalls:
    def test_need_no_actor_and_no_waiting(self):
        async def main():
            actor = FakeActor(clock)
            actor.gone = True
            client = make_client(actor)

            await opened(client)

            assert (client.state("m"), client.retry_in_s("m")) == (OPEN, 100.0)
            assert await refusal(client) == 100.0
            assert (actor.requests, clock()) == (0, 0.0)

        run_virtual(main())

    def test_failures_at_several_replicas_open_the_breaker_for_all_within_a_second(self):
        async def main():
            one, two = await started(FakeActor(clock), "r1-", "r2-")

            await call(one, FAILURE, 2)
            await call(two, FAILURE)
            before = states(one, two)
            await asyncio.sleep(1.0)

            assert (before, states(one, two)) == ([CLOSED, CLOSED], [OPEN, OPEN])

        run_virtual(main())

    @pytest.mark.parametrize("delay_s", [0.0, 0.09])  # two that wait in line: almost too long
    def test_two_replicas_agree_within_a_second_that_a_model_is_down(self, delay_s):
        async def main():
            actor = FakeActor(clock)
            actor.delay_s = delay_s
            one, two = await started(actor, "r1-", "r2-")

            for _ in range(20):
                await one.command(["m"], BreakerCommand.RESET)
                await asyncio.sleep(1.07)
                assert states(one, two) == [CLOSED, CLOSED]
                await opened(one)
                await asyncio.sleep(1.0)
                assert states(one, two) == [OPEN, OPEN]

        run_virtual(main())

    def test_results_that_come_in_while_the_actor_answers_are_kept(self):
        async def main():
            actor = FakeActor(clock)
            (client,) = await started(actor, "r1-")
            await call(client)
            await asyncio.sleep(1.0)
            actor.delay_s = 0.1
            await asyncio.sleep(0.2)  # an exchange is under way now, without what comes next

            await opened(client)
            for _ in range(40):
                assert client.state("m") is OPEN
                await asyncio.sleep(0.025)

            assert actor.breakers()["m"]["state"] == "open"

        run_virtual(main())

    def test_results_for_a_model_that_the_actor_does_not_know_yet_count_once(self):
        async def main():
            actor = FakeActor(clock)
            (client,) = await started(actor, "r1-")
            actor.delay_s = 0.1
            await asyncio.sleep(0.2)  # an exchange is under way now, without what comes next

            await call(client, FAILURE, times=2)
            for _ in range(40):
                assert client.state("m") is CLOSED  # it would open at three
                await asyncio.sleep(0.025)

            assert [calls for _, calls, *_ in client.known()["m"]["window"]] == [2]

        run_virtual(main())

    def test_each_result_counts_once(self):
        async def main():
            actor = FakeActor(clock)
            one, two = await started(actor, "r1-", "r2-")
            await call(one, times=3)
            await call(two, times=2)
            await asyncio.sleep(5.0)

            told = [actor.breakers()["m"], one.known()["m"], two.known()["m"]]

            assert [calls for b in told for _, calls, *_ in b["window"]] == [5, 5, 5]

        run_virtual(main())

    def test_results_that_come_in_while_a_replica_tells_its_breakers_count_once(self):
        async def main():
            actor = FakeActor(clock)
            actor.delay_s = 0.1
            client = make_client(actor)
            await call(client)
            client.start()
            await asyncio.sleep(0.05)

            await call(client, times=2)
            await asyncio.sleep(0.1)
            await call(client, times=3)
            await asyncio.sleep(5.0)

            assert [calls for _, calls, *_ in actor.breakers()["m"]["window"]] == [6]

        run_virtual(main())


class TestCommands:
    def test_reach_the_replica_asked_at_once_and_all_others_within_half_a_second(self):
        async def main():
            one, two = await started(FakeActor(clock), "r1-", "r2-")

            told = await one.command(["m", "n"], FORCE_OPEN)
            at_once = one.state("m"), one.state("n")
            await asyncio.sleep(0.5)

            assert (told, at_once) == (FORCED_OPEN, (FORCED_OPEN, FORCED_OPEN))
            assert (two.state("m"), two.state("n")) == (FORCED_OPEN, FORCED_OPEN)

        run_virtual(main())

    def test_without_the_actor_nobody_is_told_anything(self):
        async def main():
            actor = FakeActor(clock)
            actor.gone = True
            client = make_client(actor)

            with pytest.raises(RuntimeError, match="died"):
                await client.command(["m"], FORCE_OPEN)
            assert client.state("m") is CLOSED

        run_virtual(main())

    def test_forced_state_survives_the_actor(self):
        async def main():
            actor = FakeActor(clock)
            one, two = await started(actor, "r1-", "r2-")
            await one.command(["m"], FORCE_OPEN)
            await asyncio.sleep(1.0)
            actor.gone = True
            await asyncio.sleep(10.0)
            alone = states(one, two)
            actor.restart()
            actor.gone = False
            await asyncio.sleep(1.0)

            assert alone == states(one, two) == [FORCED_OPEN, FORCED_OPEN]
            assert actor.breakers()["m"]["state"] == "forced_open"

        run_virtual(main())

    def test_a_command_to_a_new_actor_outranks_those_that_it_never_heard_of(self):
        async def main():
            actor = FakeActor(clock)
            one, two = await started(actor, "r1-", "r2-")
            for _ in range(3):
                await one.command(["m"], FORCE_OPEN)
            await asyncio.sleep(1.0)

            actor.restart()
            await two.command(["m"], BreakerCommand.RESET)
            await asyncio.sleep(1.0)

            assert states(one, two) == [CLOSED, CLOSED]

        run_virtual(main())


class TestProbes:
    def test_only_one_of_two_replicas_probes(self):
        async def main():
            actor = FakeActor(clock)
            one, two = await half_open(actor, "r1-", "r2-")

            assert await one.acquire("m") == Permit(2, "life1--1")
            assert await refusal(two) == 5.0

        run_virtual(main())

    def test_a_lost_probe_blocks_the_next_one_no_longer_than_its_lease(self):
        async def main():
            one, two = await half_open(FakeActor(clock), "r1-", "r2-")
            await one.acquire("m")

            await asyncio.sleep(5.0)

            assert await two.acquire("m") == Permit(2, "life1--2")

        run_virtual(main())

    def test_a_good_probe_lets_calls_through_at_once_here_and_within_a_second_elsewhere(self):
        async def main():
            actor = FakeActor(clock)
            one, two = await half_open(actor, "r1-", "r2-")

            await call(one, SUCCESS)
            at_once = one.state("m"), await one.acquire("m"), actor.probes_asked
            await asyncio.sleep(1.0)

            assert at_once == (CLOSED, Permit(3), 1)
            assert states(one, two) == [CLOSED, CLOSED]

        run_virtual(main())

    def test_a_crowd_in_one_replica_gets_one_probe(self):
        async def main():
            actor = FakeActor(clock)
            (client,) = await half_open(actor, "r1-")

            crowd = (client.acquire("m") for _ in range(50))
            answers = await asyncio.gather(*crowd, return_exceptions=True)

            assert sum(isinstance(a, Permit) for a in answers) == 1
            assert sum(isinstance(a, BreakerOpenError) for a in answers) == 49

        run_virtual(main())

    def test_a_replica_that_knows_of_a_probe_does_not_ask_for_another(self):
        async def main():
            actor = FakeActor(clock)
            (client,) = await half_open(actor, "r1-")
            await client.acquire("m")

            await refusal(client)

            assert actor.probes_asked == 1

        run_virtual(main())

    def test_a_caller_that_left_while_asking_blocks_nobody_longer_than_a_lease(self):
        async def main():
            actor = FakeActor(clock)
            (client,) = await half_open(actor, "r1-")
            actor.delay_s = 0.1

            caller = asyncio.create_task(client.acquire("m"))
            await asyncio.sleep(0.05)
            caller.cancel()
            await asyncio.sleep(5.1)

            assert await client.acquire("m") == Permit(2, "life1--2")

        run_virtual(main())

    def test_a_new_actor_learns_what_holds_before_it_gives_a_probe(self):
        async def main():
            actor = FakeActor(clock)
            one, two = await half_open(actor, "r1-", "r2-")
            actor.restart()

            probe = await one.acquire("m")

            assert probe == Permit(2, "life2--1")
            await asyncio.sleep(0.3)
            assert await refusal(two) == pytest.approx(4.7)

        run_virtual(main())


def test_every_breaker_that_was_used_is_known_with_its_state_and_the_wait():
    async def main():
        client = make_client(FakeActor(clock))
        before = client.known()
        await opened(client)
        await asyncio.sleep(1.0)
        return before, client.known(), client.retry_in_s("m")

    before, after, retry_in_s = run_virtual(main())

    assert (before, set(after)) == ({}, {"m"})
    assert (after["m"]["state"], after["m"]["retry_in_s"]) == (OPEN, retry_in_s)
    assert retry_in_s == pytest.approx(99.0)
