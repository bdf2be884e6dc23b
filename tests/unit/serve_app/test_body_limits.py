import asyncio

from serve_app.body_limits import SLICE_S, Pace
from tests.fakes import FakeClock


async def test_others_have_a_turn_after_each_slice_and_not_before() -> None:
    clock, turns = FakeClock(), list[float]()

    async def other() -> None:
        while True:
            turns.append(clock.now)
            await asyncio.sleep(0)

    waiting = asyncio.create_task(other())
    pace = Pace(clock)
    await pace.rest()
    early = len(turns)
    clock.now += 2 * SLICE_S
    await pace.rest()
    await pace.rest()
    waiting.cancel()

    assert (early, turns) == (0, [1000.0 + 2 * SLICE_S])
