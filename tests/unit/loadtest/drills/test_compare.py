import asyncio
from itertools import count, cycle

import psutil
import pytest

from loadtest.drills.compare import MARKETS, Field, drive, table_of, tables_of
from loadtest.drills.parts.noop_app import EchoReplica
from loadtest.drills.parts.stages import COLUMNS
from tests.support.virtual_time import run_virtual
from tests.unit.loadtest.fake_service import answer, serving

MODEL, BASELINE = ({"ok": {"meta": {"fallback_used": used}}} for used in (False, True))


@pytest.mark.parametrize(("least", "verdict"), [(0.8, "yes"), (0.65, "**no**")])
def test_limits_are_kept_or_missed_by_the_median(least: float, verdict: str) -> None:
    text = table_of([{"hit_share": 0.6}, {"hit_share": least}, {"hit_share": 0.9}])

    assert text.splitlines()[-1].endswith(f"| {least:.2f} | 0.60 | 0.90 | {verdict} |")


def test_stages_are_under_the_table_where_they_were_measured() -> None:
    without = {"hit_share": 0.8}
    stages = {f"{name}_8": 7.0 for name in COLUMNS}

    assert tables_of([without]) == table_of([without])
    assert tables_of([without | stages, without]).endswith("| 8 |" + " 7.0 |" * len(COLUMNS))


def test_the_second_empty_deployment_takes_the_time_of_a_runtime() -> None:
    async def ended_s() -> list[float]:
        clock, echo = asyncio.get_running_loop().time, EchoReplica()
        began = clock()

        async def ask(after_s: float) -> float:
            await asyncio.sleep(after_s)
            await echo.answer(100.0, 10.0)
            return clock() - began

        return await asyncio.gather(*map(ask, (0.0, 0.05, 0.05, 0.3)))

    # the first alone, then the two that arrived meanwhile, then the last
    assert run_virtual(ended_s()) == pytest.approx([0.11, 0.23, 0.23, 0.41])


async def test_an_answer_that_is_no_success_stops_a_comparison() -> None:
    async def refuse(_body: bytes) -> bytes:
        return answer({}, 503)

    async with serving(refuse) as url:
        with pytest.raises(RuntimeError, match="status 503"):
            await drive(url, "/x", [b"a"], connections=1)


@pytest.mark.parametrize(("in_turn", "by_model"), [([True], 0.0), ([True, False], 0.5)])
async def test_rates_of_callers_are_those_of_the_model(
    in_turn: list[bool], by_model: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = cycle(in_turn)
    monkeypatch.setattr(psutil, "cpu_percent", iter((1.0, 64.0)).__next__)

    async def handler(_body: bytes) -> bytes:
        return answer({"meta": {"fallback_used": next(used)}})

    async with serving(handler) as url:
        found = await Field(url, url, 1.0).closed_loop(8, 40, one_ms=20.0)

    assert found["p95_ms_8"] > 0
    assert found["busy_8"] == 0.64
    assert found["by_model_8"] == pytest.approx(by_model)
    for rate in ("rate_8", "share_8", "gain_8"):
        assert (found[rate] > 0) == (by_model > 0)


async def test_callers_beside_a_batch_send_until_it_is_answered() -> None:
    singles = count(1)

    async def handler(body: bytes) -> bytes:
        if b'"requests"' not in body:
            if next(singles) == 100:
                crowded.set()
            return answer({"meta": {"fallback_used": False}})
        if not alone.is_set():
            alone.set()
            return answer({"results": [MODEL, BASELINE]})
        await crowded.wait()
        return answer({"results": [BASELINE]})

    alone, crowded = asyncio.Event(), asyncio.Event()
    async with serving(handler) as url:
        found = await Field(url, url, 1.0).beside_a_batch()

    assert 100 < next(singles) < 4 * MARKETS
    assert found["beside_p95_ms"] > 0
    assert found["beside_batch_share"] == 0  # of items by the model
