import asyncio

import pytest

from runner.errors import TooLateError
from runner.forecast.forecaster import SingleFlight
from tests.unit.runner.forecast.forecasters import settle


class Work:
    """Work that ends when ``done`` is set, and counts its starts and cancellations."""

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


async def test_task_is_cancelled_when_its_last_caller_is() -> None:
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


async def test_task_goes_on_without_callers_if_one_of_them_timed_out() -> None:
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
    assert not flights.running("k")


async def test_new_caller_does_not_join_a_cancelled_task() -> None:
    flights, old, new = SingleFlight[str](), Work(), Work()
    cancelled = asyncio.ensure_future(flights.join("k", old, 10))
    await settle()
    cancelled.cancel()
    new.done.set()
    joined = await asyncio.gather(cancelled, flights.join("k", new, 10), return_exceptions=True)

    assert isinstance(joined[0], asyncio.CancelledError)
    assert joined[1] == "result"
