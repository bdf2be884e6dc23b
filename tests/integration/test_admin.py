"""An operator's word to the breaker, through every process of a running service."""

import itertools

import pytest

from tests.integration.conftest import Stack, until

pytestmark = pytest.mark.integration
ROUTE = "/tsfm/admin/breakers/chronos"
KNOWN_WITHIN_S = 5.0  # a second is promised; the cores that run the tests may be late by more


async def test_forced_breaker_holds_for_everybody_until_it_is_reset(
    stack: Stack,
) -> None:
    seeds = itertools.count(70_000)

    async def state_and_reason() -> tuple[str, str | None]:
        meta = await stack.meta(seed=next(seeds))
        return meta["circuit_breaker_state"], meta["fallback_reason"]

    async def is_forced() -> bool:
        return await state_and_reason() == ("forced_open", "breaker_open")

    async def is_closed() -> bool:
        return await state_and_reason() == ("closed", None)

    forced = await stack.http.post(ROUTE, json={"action": "force_open"})
    await until(is_forced, KNOWN_WITHIN_S)
    calls = stack.stub.stats()["calls"]
    reasons = [(await state_and_reason())[1] for _ in range(20)]
    calls_while_forced = stack.stub.stats()["calls"] - calls
    reset = await stack.http.post(ROUTE, json={"action": "reset"})
    await until(is_closed, KNOWN_WITHIN_S)

    assert forced.json() == {"model": "fracast-0", "state": "forced_open"}
    assert (None in reasons, calls_while_forced) == (False, 0)  # nobody got to the model
    assert reset.json() == {"model": "fracast-0", "state": "closed"}
