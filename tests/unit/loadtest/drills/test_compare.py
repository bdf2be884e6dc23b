import pytest

from loadtest.drills.compare import SHAPE, Row, drive, drive_at, missed, runtime_call
from tests.unit.loadtest.fake_service import answer, serving


async def echo(_body: bytes) -> bytes:
    return answer({})


async def test_both_ways_to_send_measure_rate_and_latency() -> None:
    async with serving(echo) as url:
        fast = await drive(url, "/x", [b"a"] * 4, connections=2)
        steady = await drive_at(url, "/x", [b"a"] * 10, per_second=200.0)

    assert fast.per_second > 0
    assert fast.p50_ms <= fast.p95_ms
    assert steady.per_second < 250.0


def test_runtime_call_holds_as_many_series_as_asked() -> None:
    assert runtime_call(3, SHAPE).count(b'"id"') == 3


def test_limits_are_held_or_missed_by_the_median() -> None:
    rounds = [{"hit_share": 0.6}, {"hit_share": 0.8}, {"hit_share": 0.75}]

    assert missed(rounds) == []
    assert missed([{"hit_share": 0.6}]) == ["cache hits as a share of the empty ingress"]


@pytest.mark.parametrize(
    ("row", "value", "holds"),
    [
        (Row("n", "m", at_least=2), 2.0, True),
        (Row("n", "m", at_least=2), 1.9, False),
        (Row("n", "m", under=2), 1.9, True),
        (Row("n", "m", under=2), 2.0, False),
        (Row("n", "m"), 1e9, True),
    ],
)
def test_row_holds_up_to_its_limit(row: Row, value: float, holds: bool) -> None:
    assert row.holds(value) is holds
