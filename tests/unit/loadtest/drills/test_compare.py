import pytest

from loadtest.drills.compare import Row, drive, table_of
from tests.unit.loadtest.fake_service import answer, serving


async def echo(_body: bytes) -> bytes:
    return answer({})


async def test_both_ways_to_send_measure_rate_and_latency() -> None:
    async with serving(echo) as url:
        fast = await drive(url, "/x", [b"a"] * 4, connections=2)
        steady = await drive(url, "/x", [b"a"] * 10, per_second=200.0)

    assert fast.per_second > 0
    assert fast.p50_ms <= fast.p95_ms
    assert steady.per_second < 250.0


@pytest.mark.parametrize(("least", "verdict"), [(0.8, "yes"), (0.65, "**no**")])
def test_limits_are_kept_or_missed_by_the_median(least: float, verdict: str) -> None:
    text = table_of([{"hit_share": 0.6}, {"hit_share": least}, {"hit_share": 0.9}])

    assert text.splitlines()[-1].endswith(f"| {least:.2f} | 0.60 | 0.90 | {verdict} |")


async def test_an_answer_that_is_no_success_stops_a_comparison() -> None:
    async def refuse(_body: bytes) -> bytes:
        return answer({}, 503)

    async with serving(refuse) as url:
        with pytest.raises(RuntimeError, match="status 503"):
            await drive(url, "/x", [b"a"], connections=1)


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
