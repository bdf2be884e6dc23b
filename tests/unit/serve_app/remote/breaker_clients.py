"""Shared by the tests of a replica's breakers: clients of one actor, and steps with them."""

import asyncio
from typing import Any

import pytest

from runner.errors import BreakerOpenError
from runner.types import BreakerCommand, BreakerState
from serve_app.remote.breaker_client import BreakerClient
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
