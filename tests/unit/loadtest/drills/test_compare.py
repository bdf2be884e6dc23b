import pytest

from loadtest.drills.compare import drive, table_of
from tests.unit.loadtest.fake_service import answer, serving


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
