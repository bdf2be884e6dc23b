import asyncio
import logging
from typing import Any

import pytest

from runner.breaker.state_machine import Permit
from runner.errors import BreakerOpenError
from runner.types import BreakerCommand, BreakerState
from serve_app.remote.breaker_client import BreakerClient
from tests.support.virtual_time import in_virtual_time, run_virtual
from tests.unit.runner.breaker.breakers import (
    FAILURE,
    FAST_S,
    SUCCESS,
    FakeActor,
    make_breakers,
    make_settings,
)

CLOSED = BreakerState.CLOSED
OPEN = BreakerState.OPEN
HALF_OPEN = BreakerState.HALF_OPEN
FORCED_OPEN = BreakerState.FORCED_OPEN
FORCE_OPEN = BreakerCommand.FORCE_OPEN


def clock() -> float:
    return asyncio.get_running_loop().time()


def make_client(actor: FakeActor, name: str = "r1-", **changes: Any) -> BreakerClient:
    copy = make_breakers(owner=name, **changes)
    return BreakerClient(copy, actor.call, make_settings(**changes), clock)


async def started(actor: FakeActor, *names: str, **changes: Any) -> list[BreakerClient]:
    """Replicas that have been in step with the actor for a while."""
    clients = [make_client(actor, name, **changes) for name in names]
    for client in clients:
        client.start()
        await asyncio.sleep(0.1)
    await asyncio.sleep(10.0)
    return clients


async def call(client: BreakerClient, result=SUCCESS, times: int = 1) -> None:
    for _ in range(times):
        client.record("m", await client.acquire("m"), result, FAST_S)


async def opened(client: BreakerClient) -> None:
    await call(client, FAILURE, 3)


async def refusal(client: BreakerClient) -> float:
    """Seconds to wait, of an acquire that must be refused."""
    with pytest.raises(BreakerOpenError) as caught:
        await client.acquire("m")
    return caught.value.retry_in_s


async def half_open(actor: FakeActor, *names: str) -> list[BreakerClient]:
    """Replicas that all know the breaker of "m", whose cooldown is just over."""
    clients = await started(actor, *names)
    await opened(clients[0])
    await asyncio.sleep(101.0)
    assert {client.state("m") for client in clients} == {HALF_OPEN}
    return clients


def states(*clients: BreakerClient) -> list[BreakerState]:
    return [client.state("m") for client in clients]


class TestOrdinaryCalls:
    @in_virtual_time
    async def test_need_no_actor_and_no_waiting(self):
        actor = FakeActor(clock)
        actor.gone = True
        client = make_client(actor)

        await opened(client)

        assert (client.state("m"), client.retry_in_s("m")) == (OPEN, 100.0)
        assert await refusal(client) == 100.0
        assert (actor.requests, clock()) == (0, 0.0)

    @in_virtual_time
    async def test_failures_at_several_replicas_open_the_breaker_for_all_within_a_second(self):
        one, two = await started(FakeActor(clock), "r1-", "r2-")

        await call(one, FAILURE, 2)
        await call(two, FAILURE)
        before = states(one, two)
        await asyncio.sleep(1.0)

        assert (before, states(one, two)) == ([CLOSED, CLOSED], [OPEN, OPEN])

    @in_virtual_time
    async def test_replicas_agree_within_a_second_through_a_slow_actor(self):
        actor = FakeActor(clock)
        actor.delay_s = 0.09  # two requests that wait in line take almost too long
        one, two = await started(actor, "r1-", "r2-")

        for _ in range(20):
            await one.command(["m"], BreakerCommand.RESET)
            await asyncio.sleep(1.07)
            assert states(one, two) == [CLOSED, CLOSED]
            await opened(one)
            await asyncio.sleep(1.0)
            assert states(one, two) == [OPEN, OPEN]

    @in_virtual_time
    async def test_results_recorded_during_an_exchange_are_kept(self):
        actor = FakeActor(clock)
        (client,) = await started(actor, "r1-")
        await call(client)
        await asyncio.sleep(1.0)
        actor.delay_s = 0.1
        await asyncio.sleep(0.2)  # an exchange is running now, without the results below

        await opened(client)
        for _ in range(40):
            assert client.state("m") is OPEN
            await asyncio.sleep(0.025)

        assert actor.breakers()["m"]["state"] == "open"

    @in_virtual_time
    async def test_each_result_counts_once(self):
        actor = FakeActor(clock)
        one, two = await started(actor, "r1-", "r2-")
        await call(one, times=3)
        await call(two, times=2)
        await asyncio.sleep(5.0)

        counted = [actor.breakers()["m"], one.known()["m"], two.known()["m"]]

        assert [calls for b in counted for _, calls, *_ in b["window"]] == [5, 5, 5]


class TestCommands:
    @in_virtual_time
    async def test_reach_the_replica_asked_at_once_and_all_others_within_half_a_second(self):
        one, two = await started(FakeActor(clock), "r1-", "r2-")

        state = await one.command(["m", "n"], FORCE_OPEN)
        at_once = one.state("m"), one.state("n")
        await asyncio.sleep(0.5)

        assert (state, at_once) == (FORCED_OPEN, (FORCED_OPEN, FORCED_OPEN))
        assert (two.state("m"), two.state("n")) == (FORCED_OPEN, FORCED_OPEN)

    @in_virtual_time
    async def test_without_the_actor_a_command_fails_and_changes_nothing(self):
        actor = FakeActor(clock)
        actor.gone = True
        client = make_client(actor)

        with pytest.raises(RuntimeError, match="died"):
            await client.command(["m"], FORCE_OPEN)
        assert client.state("m") is CLOSED

    @in_virtual_time
    async def test_forced_state_survives_the_actor(self):
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

    @in_virtual_time
    async def test_command_to_a_new_actor_outranks_earlier_commands_to_the_old_one(self):
        actor = FakeActor(clock)
        one, two = await started(actor, "r1-", "r2-")
        for _ in range(3):
            await one.command(["m"], FORCE_OPEN)
        await asyncio.sleep(1.0)

        actor.restart()
        await two.command(["m"], BreakerCommand.RESET)
        await asyncio.sleep(1.0)

        assert states(one, two) == [CLOSED, CLOSED]


class TestProbes:
    @in_virtual_time
    async def test_many_calls_at_once_in_one_replica_get_one_probe(self):
        actor = FakeActor(clock)
        (client,) = await half_open(actor, "r1-")

        calls = (client.acquire("m") for _ in range(50))
        answers = await asyncio.gather(*calls, return_exceptions=True)

        assert sum(isinstance(a, Permit) for a in answers) == 1
        assert sum(isinstance(a, BreakerOpenError) for a in answers) == 49

        requests = actor.requests
        assert await refusal(client) > 0
        assert actor.requests == requests  # the copy has the running probe

    @in_virtual_time
    async def test_new_actor_receives_the_state_before_it_permits_a_probe(self):
        actor = FakeActor(clock)
        one, two = await half_open(actor, "r1-", "r2-")
        actor.restart()

        probe = await one.acquire("m")

        assert probe == Permit(2, "life2--1")
        await asyncio.sleep(0.3)
        assert await refusal(two) == pytest.approx(4.7)


class TestWithoutTheActor:
    @in_virtual_time
    async def test_new_actor_counts_a_result_once(self):
        actor = FakeActor(clock)
        (client,) = await started(actor, "r1-")
        actor.restart()

        await call(client, FAILURE, 2)
        await asyncio.sleep(1.0)

        assert actor.breakers()["m"]["consecutive"] == 2
        assert client.state("m") is CLOSED

    @pytest.mark.parametrize(("gone", "waits_s"), [(True, 0.0), (False, 0.2)])
    @in_virtual_time
    async def test_probe_without_the_actor_starts_after_the_time_limit_at_most(self, gone, waits_s):
        actor = FakeActor(clock)
        (client,) = await half_open(actor, "r1-")
        actor.gone, actor.delay_s = gone, 60.0
        began = clock()

        probe = await client.acquire("m")

        assert probe == Permit(2, "r1--1")
        assert clock() - began == pytest.approx(waits_s)

    @in_virtual_time
    async def test_result_of_a_replica_without_the_actor_reaches_the_actor_later(self):
        actor = FakeActor(clock)
        one, two = await half_open(actor, "r1-", "r2-")
        actor.gone = True
        await asyncio.sleep(1.0)
        await call(one, SUCCESS)
        alone = states(one, two)
        actor.gone = False
        await asyncio.sleep(1.0)

        assert (alone, states(one, two)) == ([CLOSED, HALF_OPEN], [CLOSED, CLOSED])
        assert actor.breakers()["m"]["state"] == "closed"

    @pytest.mark.parametrize("order", [("r1-", "r2-"), ("r2-", "r1-")])
    @in_virtual_time
    async def test_new_actor_receives_the_state_from_any_replica_that_has_it(self, order):
        actor = FakeActor(clock)
        actor.gone = True
        clients = await started(actor, *order)
        await opened(clients[order.index("r1-")])
        await call(clients[order.index("r2-")], SUCCESS)
        await asyncio.sleep(10.0)

        actor.gone = False
        await asyncio.sleep(1.0)

        assert states(*clients) == [OPEN, OPEN]
        assert actor.breakers()["m"]["retry_in_s"] == pytest.approx(89.0)

    @in_virtual_time
    async def test_actor_that_hangs_is_called_at_the_usual_interval(self):
        actor = FakeActor(clock)
        actor.delay_s = 1e6
        client = make_client(actor)

        client.start()
        client.start()  # has no effect
        await asyncio.sleep(4.6)

        assert actor.requests == 19

    def test_loss_and_return_are_logged_once_each(self, caplog):
        async def main():
            actor = FakeActor(clock)
            await started(actor, "r1-")
            actor.gone = True
            await asyncio.sleep(1.0)
            actor.gone, actor.delay_s = False, 0.3
            await asyncio.sleep(2.0)
            actor.delay_s = 0.0
            await asyncio.sleep(2.0)

        with caplog.at_level(logging.WARNING):
            run_virtual(main())

        assert [r.getMessage() for r in caplog.records] == [
            "Lost the shared breaker (RuntimeError); this replica decides alone.",
            "The shared breaker is back.",
        ]
