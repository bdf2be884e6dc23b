"""A replica's breakers while the actor is away, and after it came back."""

import asyncio
import logging

import pytest

from runner.breaker.state_machine import Permit
from tests.support.virtual_time import run_virtual
from tests.unit.runner.breaker.breakers import (
    SUCCESS,
    FakeActor,
)
from tests.unit.serve_app.remote.breaker_clients import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    call,
    clock,
    half_open,
    make_client,
    opened,
    started,
    states,
)


class TestWithoutTheActor:
    @pytest.mark.parametrize(("gone", "waits_s"), [(True, 0.0), (False, 0.2)])
    def test_a_probe_is_taken_alone_after_the_time_limit_at_most(self, gone, waits_s):
        async def main():
            actor = FakeActor(clock)
            (client,) = await half_open(actor, "r1-")
            actor.gone, actor.delay_s = gone, 60.0
            began = clock()

            probe = await client.acquire("m")

            assert probe == Permit(2, "r1--1")
            assert clock() - began == pytest.approx(waits_s)

        run_virtual(main())

    def test_a_replica_that_lost_the_actor_does_not_ask_it_for_a_probe(self):
        async def main():
            actor = FakeActor(clock)
            actor.gone = True
            (client,) = await half_open(actor, "r1-")

            assert await client.acquire("m") == Permit(2, "r1--1")
            assert actor.probes_asked == 0

        run_virtual(main())

    def test_what_a_replica_found_out_alone_is_learned_by_the_actor_that_was_away(self):
        async def main():
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

        run_virtual(main())

    @pytest.mark.parametrize("order", [("r1-", "r2-"), ("r2-", "r1-")])
    def test_a_new_actor_learns_the_state_from_whichever_replica_knows_it(self, order):
        async def main():
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

        run_virtual(main())

    def test_an_actor_that_hangs_is_asked_again_as_often_as_ever(self):
        async def main():
            actor = FakeActor(clock)
            actor.delay_s = 1e6
            client = make_client(actor)

            client.start()
            client.start()  # a second start is none
            await asyncio.sleep(4.6)

            assert actor.requests == 19

        run_virtual(main())

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

    def test_an_actor_that_never_answered_is_logged_with_the_reason(self, caplog):
        async def main():
            actor = FakeActor(clock)
            actor.delay_s = 1e6
            make_client(actor).start()
            await asyncio.sleep(1.0)

        with caplog.at_level(logging.WARNING):
            run_virtual(main())

        assert [r.getMessage() for r in caplog.records] == [
            "Lost the shared breaker (TimeoutError); this replica decides alone."
        ]
