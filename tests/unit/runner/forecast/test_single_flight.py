import asyncio

import pytest

from runner.errors import TooLateError
from runner.forecast.forecaster import SingleFlight


class Work:
    """A piece of work that ends when told, and counts."""

    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0
        self.done = asyncio.Event()

    async def __call__(self) -> str:
        self.started += 1
        try:
            await self.done.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "result"


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_callers_of_one_key_share_the_work() -> None:
    flights, work = SingleFlight[str](), Work()
    callers = [asyncio.ensure_future(flights.join("k", work, 10)) for _ in range(3)]
    await settle()
    work.done.set()

    assert await asyncio.gather(*callers) == ["result"] * 3
    assert work.started == 1
    assert len(flights) == 0


async def test_other_keys_fly_on_their_own() -> None:
    flights, work = SingleFlight[str](), Work()
    work.done.set()
    await asyncio.gather(flights.join("a", work, 10), flights.join("b", work, 10))

    assert work.started == 2


async def test_who_waits_too_long_is_told_and_the_work_goes_on() -> None:
    flights, work = SingleFlight[str](), Work()
    with pytest.raises(TooLateError, match="deadline"):
        await flights.join("k", work, 0.0)
    assert flights.running("k")
    work.done.set()
    await settle()

    assert work.cancelled == 0
    assert not flights.running("k")


async def test_work_is_dropped_when_the_last_caller_leaves() -> None:
    flights, work = SingleFlight[str](), Work()
    callers = [asyncio.ensure_future(flights.join("k", work, 10)) for _ in range(2)]
    await settle()
    callers[0].cancel()
    await settle()
    assert work.cancelled == 0
    callers[1].cancel()
    await settle()

    assert work.cancelled == 1
    assert not flights.running("k")


async def test_work_somebody_timed_out_on_is_still_wanted_when_callers_leave() -> None:
    flights, work = SingleFlight[str](), Work()
    with pytest.raises(TooLateError, match="deadline"):
        await flights.join("k", work, 0.0)
    caller = asyncio.ensure_future(flights.join("k", work, 10))
    await settle()
    caller.cancel()
    await settle()

    assert work.cancelled == 0
    work.done.set()
    await settle()
    assert len(flights) == 0


async def test_new_caller_after_everybody_left_starts_anew() -> None:
    flights, old, new = SingleFlight[str](), Work(), Work()
    leaver = asyncio.ensure_future(flights.join("k", old, 10))
    await settle()
    leaver.cancel()
    new.done.set()
    joined = await asyncio.gather(leaver, flights.join("k", new, 10), return_exceptions=True)

    assert isinstance(joined[0], asyncio.CancelledError)
    assert joined[1] == "result"


async def test_failure_reaches_every_caller() -> None:
    async def fail() -> str:
        raise ValueError("no")

    flights = SingleFlight[str]()
    results = await asyncio.gather(
        flights.join("k", fail, 10), flights.join("k", fail, 10), return_exceptions=True
    )

    assert [str(r) for r in results] == ["no", "no"]
