"""An operator's word to the breaker, through every process of a running service."""

import asyncio
import itertools

import pytest

from tests.integration.conftest import Stack, until

pytestmark = pytest.mark.integration
ROUTE = "/tsfm/admin/breakers/chronos"
KNOWN_WITHIN_S = 2.0  # a second is promised; the cores that run the tests may be late by another


async def test_forced_breaker_holds_for_everybody_until_it_is_reset(
    stack: Stack,
) -> None:
    seeds = itertools.count(70_000)
    now = asyncio.get_running_loop().time

    async def state_and_reason() -> tuple[str, str | None]:
        meta = await stack.meta(seed=next(seeds))
        return meta["circuit_breaker_state"], meta["fallback_reason"]

    async def is_closed() -> bool:
        return await state_and_reason() == ("closed", None)

    async def shown_states() -> list[str]:
        status = (await stack.http.get("/tsfm/status")).json()
        return [one["state"] for one in status["breakers"] if one["model"] == "fracast-0"]

    async def is_shown_as_closed() -> bool:
        return await shown_states() == ["closed"]

    forced = await stack.http.post(ROUTE, json={"action": "force_open"})
    known_at = now() + KNOWN_WITHIN_S
    while now() < known_at:  # there may be several Runners, and each has its second
        await state_and_reason()
    calls = stack.stub.stats()["calls"]
    seen = [await state_and_reason() for _ in range(20)]
    shown = await shown_states()
    calls_while_forced = stack.stub.stats()["calls"] - calls
    reset = await stack.http.post(ROUTE, json={"action": "reset"})
    await until(is_closed, KNOWN_WITHIN_S)
    await until(is_shown_as_closed)

    assert forced.json() == {"model": "fracast-0", "state": "forced_open"}
    assert seen == [("forced_open", "breaker_open")] * 20
    assert shown == ["forced_open"]
    assert calls_while_forced == 0
    assert reset.json() == {"model": "fracast-0", "state": "closed"}
