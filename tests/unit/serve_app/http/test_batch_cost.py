import asyncio
from itertools import count

import pytest

from loadtest.payloads import Shape, batch_body, forecast_bodies
from runner.pacer import Pacer
from serve_app.http.batch_admission import (
    SLOWEST,
    BatchCost,
    count_items,
    peeked_deadline_ms,
)


def least_s(cost: BatchCost, body: bytes) -> float:
    return cost.least_s(len(body), body.count(b'"market_id"'))


BODY = batch_body(forecast_bodies(100, Shape(points=288)))


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"requests":[{}],"deadline_ms":50}', 50.0),
        (b'{"requests":[{}],"deadline_ms":50', None),
        (b' { "deadline_ms" : 1.5e2 , "requests" : [{}] } ', 150.0),
        (b'{"requests":[{}] , "deadline_ms" : 50.0 }\n', 50.0),
        (b'{"requests":[{"deadline_ms":50}]}', None),
        (b'{"requests":[{"y":[1],"deadline_ms":50}]}', None),
        (b'{"deadline_ms":null,"requests":[]}', None),
        (b'{"deadline_ms":5-5,"requests":[]}', None),
        (b"", None),
    ],
)
def test_a_deadline_is_found_before_and_behind_the_items(body: bytes, found: float | None):
    assert peeked_deadline_ms(body) == found


@pytest.mark.parametrize("length", range(1_999_985, 2_000_003))
async def test_items_are_counted_once_where_two_slices_meet(length: int):
    body = b'"market_id"' + b" " * (length - 11) + b'"market_id"' + b" " * 2_000_000

    assert await count_items(body, Pacer(asyncio.get_running_loop().time)) == 2


async def test_other_work_runs_while_the_items_of_a_large_body_are_counted():
    milliseconds, turns = count(step=2), 0

    async def other_work() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    work = asyncio.create_task(other_work())
    await count_items(b" " * 10_000_000, Pacer(lambda: next(milliseconds) / 1e3))
    work.cancel()

    assert turns >= 4


def test_a_busy_machine_is_noticed_by_its_parsing_and_not_taken_for_slower_than_it_can_be():
    cost = BatchCost()
    usual_s, answering_s = least_s(cost, BODY), cost.answering_s(100, 30_000)
    for _ in range(50):
        cost.was_read(3_000_000, 2000, took_s=100.0)

    assert least_s(cost, BODY) == pytest.approx(SLOWEST * usual_s)
    assert cost.answering_s(100, 30_000) == pytest.approx(SLOWEST * answering_s)


def test_short_bodies_and_fast_parsing_change_no_estimate():
    cost = BatchCost()
    usual_s = least_s(cost, BODY)
    cost.was_read(1000, 1, took_s=100.0)
    cost.was_read(3_000_000, 2000, took_s=1e-6)

    assert least_s(cost, BODY) == usual_s
